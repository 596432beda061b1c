"""The bodies of spans of many traces."""

from __future__ import annotations

import sqlite3

import pytest

from observability.viewer.store import Store, blocks, bodies
from tests.observability.viewer.samples import add, span, span_id, trace_id


def test_failures(store: Store) -> None:
    """Of each trace those spans that failed are given back whole below which none did."""
    for trace in (1, 2, 3):
        add(store, span(trace, 1, error=True), span(trace, 2, 1, error=True), span(trace, 3, 2))
        add(store, span(trace, 4, 1, error=trace == 2), span(trace, 5, 9, error=True), service="payments")
    found, complete = store.failures([trace_id(2), trace_id(1)])
    assert complete
    whole = {(one.trace_id, one.span_id): one for one in [*store.trace(trace_id(1)), *store.trace(trace_id(2))]}
    assert found == [whole[one.trace_id, one.span_id] for one in found]
    assert sorted((one.trace_id, one.span_id) for one in found) == [
        *((trace_id(1), span_id(number)) for number in (2, 5)),
        *((trace_id(2), span_id(number)) for number in (2, 4, 5)),
    ]


def test_blocks_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many traces have spans in a block, it is read once."""
    add(store, *(span(trace, error=True) for trace in range(1, 301)))
    read: list[int] = []

    def counted(connection: sqlite3.Connection, signal: blocks.Signal, block: int) -> list[tuple[bytes, bytes, bytes]]:
        read.append(block)
        return blocks.read_block(connection, signal, block)

    monkeypatch.setattr(bodies, "read_block", counted)
    found, _ = store.failures([trace_id(trace) for trace in range(1, 301)])
    assert (len(found), len(read)) == (300, 1)


def test_time_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over, what was read is given, and that it is not all."""
    add(store, span(1, error=True))
    monkeypatch.setattr(bodies, "TIME_LIMIT_S", -1.0)
    assert store.failures([trace_id(1)]) == ([], False)
