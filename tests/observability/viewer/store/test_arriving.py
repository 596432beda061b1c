from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from observability.viewer.store import Store, arriving, retention
from tests.observability.viewer.samples import add, add_logs, log, span, trace_id


def _bytes(store: Store, trace: int) -> int:
    query = "SELECT bytes FROM traces WHERE trace_id = ?"
    with store._database.reading() as connection:
        return int(connection.execute(query, (trace_id(trace),)).fetchone()[0])


def test_logs_between(store: Store) -> None:
    """What logs take of a trace's room counts for the spans that come after them."""
    add(store, span(1, 1))
    of_span = _bytes(store, 1)
    add_logs(store, log(1, body="text"))
    with_log = _bytes(store, 1)
    add(store, span(1, 2))
    assert _bytes(store, 1) - with_log == of_span < with_log


def test_undone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span whose write failed is not taken for one that is there."""

    def fail(*_bounds: object) -> int:
        raise sqlite3.OperationalError("disk full")

    add(store, span(1, 1))
    with monkeypatch.context() as patched:
        patched.setattr("observability.viewer.store.store.evict", fail)
        with pytest.raises(sqlite3.OperationalError):
            add(store, span(1, 2))
    add(store, span(1, 2))
    assert len(store.trace(trace_id(1))) == 2


def test_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that comes again after its trace went is kept again."""

    def evict(connection: sqlite3.Connection, *_bounds: object) -> int:
        retention._drop(connection, 1)
        return 1

    add(store, span(1), span(2))
    with monkeypatch.context() as patched:
        patched.setattr("observability.viewer.store.store.evict", evict)
        add(store, span(3))
    add(store, span(1), span(2))
    assert store.counts() == (3, 3)


def test_other_process(store: Store, tmp_path: Path) -> None:
    """A span that another process has written is not kept twice."""
    with closing(Store(tmp_path)) as other:
        add(store, span(1, 1))
        add(other, span(1, 2))
        add(store, span(1, 1), span(1, 2), span(1, 3))
        assert store.counts() == (1, 3)


def test_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many spans are remembered at most, those of the traces that spans came for last."""
    monkeypatch.setattr(arriving, "MAX_REMEMBERED_SPANS", 10)
    for trace in range(1, 9):
        add(store, span(1, trace), span(trace + 1, 1), span(trace + 1, 2))
    remembered = store._traces._traces
    assert list(remembered) == [trace_id(1), trace_id(9)]
    assert store._traces._spans == sum(trace.spans for trace in remembered.values()) == 10
    add(store, *(span(1, number) for number in range(20)))
    assert not remembered
    assert store._traces._spans == 0
    assert store.counts() == (9, 16 + 19)
