from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import parse
from observability.viewer.store import Store, blocks, traces
from tests.observability.viewer.samples import add, noise, number, span, span_id, text, trace_id


def _blocks(store: Store) -> list[tuple[int, bool]]:
    with store._database.reading() as connection:
        rows = connection.execute("SELECT count, many IS NULL FROM span_blocks ORDER BY number")
        return [(count, bool(is_open)) for count, is_open in rows]


def test_large_request(store: Store) -> None:
    """A request of many spans is a block at once."""
    add(store, *(span(1, index) for index in range(1, 301)))
    assert _blocks(store) == [(300, False)]


def test_small_requests(store: Store) -> None:
    """Small requests become one block when there are enough, whatever came between, and everything stays in place."""
    for index in range(1, 60):
        add(store, *(span(index, one, attributes=[number("index", index)]) for one in range(1, 21)))
        if index == 10:
            add(store, *(span(100, one) for one in range(1, 301)))
    assert max(count for count, _ in _blocks(store)) >= blocks.OPEN_RECORDS
    assert sum(count for count, _ in _blocks(store)) == 59 * 20 + 300
    for index in range(1, 60):
        found = store.trace(trace_id(index))
        assert [one.span_id for one in found] == [span_id(one) for one in range(1, 21)]
        assert all(Span.FromString(one.span).trace_id == trace_id(index) for one in found)
        assert [one.trace_id for one in store.find(parse(f"index={index}")).traces] == [trace_id(index)]


def test_huge_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is too much for one block becomes several, by number and by bytes."""
    monkeypatch.setattr(traces, "MAX_PART_RECORDS", 100)
    monkeypatch.setattr(traces, "MAX_PART_BYTES", 20_000)
    add(store, *(span(1, index, attributes=[text("key", "value")]) for index in range(1, 251)))
    add(
        store, *(span(2, index, attributes=[noise(9000)]) for index in range(1, 4)), span(3, attributes=[noise(30_000)])
    )
    assert [count for count, _ in _blocks(store)] == [100, 100, 50, 2, 1, 1]
    assert [len(store.trace(trace_id(trace))) for trace in (1, 2, 3)] == [250, 3, 1]
    assert len(store.find(parse("key=value")).traces) == 1


def test_refused_spans_are_not_kept(store: Store) -> None:
    """What is refused or came before takes no place in a block."""
    add(store, span(1))
    add(store, span(1), span(1), span(2))
    assert [count for count, _ in _blocks(store)] == [1, 1]
