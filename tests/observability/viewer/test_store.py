from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from observability.viewer import store as store_module
from observability.viewer.store import Store
from observability.viewer.stored import StoredSpan
from tests.observability.viewer.samples import START_NS, span_id, stored_log, stored_span, trace_id

KIB = 1024


def _bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".db-shm")


def test_trace(store: Store) -> None:
    """The spans of a trace come by their start, and those of another do not."""
    late, early = stored_span(1, 2, 1, start_ns=500), stored_span(1, 1, start_ns=0)
    store.add_spans([late, early, stored_span(2)])
    assert store.trace(trace_id(1)) == [early, late]
    assert store.trace(trace_id(3)) == []


def test_repeated_span(store: Store) -> None:
    """A span that comes twice is kept once, as it came first."""
    store.add_spans([stored_span(1, name="first"), stored_span(1, name="second")])
    store.add_spans([stored_span(1, name="third")])
    assert [span.name for span in store.trace(trace_id(1))] == ["first"]
    assert store.counts() == (1, 1)


def test_restart(tmp_path: Path) -> None:
    """What was stored is there after a restart."""
    with closing(Store(tmp_path)) as store:
        store.add_spans([stored_span(1)])
    with closing(Store(tmp_path)) as store:
        assert store.counts() == (1, 1)


def test_nothing_by_halves(store: Store) -> None:
    """If one span of a write cannot be stored, none of them is."""

    def broken() -> Iterator[StoredSpan]:
        yield stored_span(1)
        raise KeyError

    with pytest.raises(KeyError):
        store.add_spans(broken())
    store.add_spans([stored_span(2)])
    assert store.search() == [trace_id(2)]


def test_readers_do_not_wait(store: Store) -> None:
    """While spans are being written, readers see what was there before."""
    store.add_spans([stored_span(1)])
    seen: list[tuple[int, int]] = []

    def slow() -> Iterator[StoredSpan]:
        yield stored_span(2)
        seen.append(store.counts())

    store.add_spans(slow())
    assert seen == [(1, 1)]
    assert store.counts() == (2, 2)


def test_two_stores(tmp_path: Path) -> None:
    """Two stores on one folder write in turn, and each sees what the other wrote."""
    with closing(Store(tmp_path)) as one, closing(Store(tmp_path)) as other:
        for index in range(1, 11):
            (one if index % 2 else other).add_spans([stored_span(index)])
        assert one.counts() == other.counts() == (10, 10)


def test_oldest_go_first(store: Store, tmp_path: Path) -> None:
    """Beyond its bytes the store lets the traces go that arrived first, whole, and its file does not grow."""
    for trace in range(1, 401):
        store.add_logs([stored_log(trace, record=bytes(KIB))])
        store.add_spans(stored_span(trace, span, message=bytes(KIB)) for span in range(1, 11))
    kept = [trace for trace in range(1, 401) if store.trace(trace_id(trace))]
    assert kept == list(range(kept[0], 401))
    assert len(kept) > 100
    assert all(len(store.trace(trace_id(trace))) == 10 for trace in kept)
    assert store.logs(trace_id(kept[0] - 1)) == []
    assert len(store.logs(trace_id(kept[0]))) == 1
    assert _bytes_on_disk(tmp_path) < 8 * 1024 * KIB  # 2 MiB, and the write-ahead log between two checkpoints


def test_file_size(store: Store, tmp_path: Path) -> None:
    """The file itself stays at the bytes that it may hold and one write more."""
    for trace in range(1, 401):
        store.add_spans(stored_span(trace, span, message=bytes(KIB)) for span in range(1, 11))
    store.close()
    assert (tmp_path / "viewer.db").stat().st_size < 2.2 * 1024 * KIB


def test_log_of_a_large_write(tmp_path: Path) -> None:
    """A large write leaves no large write-ahead log behind."""
    with closing(Store(tmp_path)) as store:
        store.add_spans(stored_span(trace, message=bytes(1024 * KIB)) for trace in range(1, 41))
        for trace in (41, 42):
            store.add_spans([stored_span(trace)])
        assert (tmp_path / "viewer.db-wal").stat().st_size <= 16 * 1024 * KIB


def test_endless_trace(store: Store) -> None:
    """A trace that never ends is refused more than its share of bytes, and the others stay."""
    store.add_spans([stored_span(1)])
    refused = store.add_spans(stored_span(2, span, message=bytes(KIB)) for span in range(1, 4001))
    assert len(store.trace(trace_id(2))) == 4000 - refused
    assert 100 < 4000 - refused < 256
    assert store.counts()[0] == 2


def test_endless_logs(store: Store) -> None:
    """The logs of a trace count among its bytes."""
    refused = store.add_logs(stored_log(1, record=bytes(KIB)) for _ in range(1000))
    assert len(store.logs(trace_id(1))) == 1000 - refused
    assert store.add_spans([stored_span(1, message=bytes(KIB))]) == 1


def test_spans_per_trace(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace is refused more spans than a page can show."""
    monkeypatch.setattr(store_module, "MAX_SPANS_PER_TRACE", 3)
    assert store.add_spans(stored_span(1, span) for span in range(1, 6)) == 2


def test_logs_of_no_trace(store: Store) -> None:
    """Logs whose spans never come go like any trace, and are no trace in the list."""
    store.add_spans([stored_span(1)])
    for trace in range(2, 3000):
        store.add_logs([stored_log(trace, record=bytes(KIB))])
    assert store.search() == []
    assert store.logs(trace_id(2)) == []
    assert len(store.logs(trace_id(2999))) == 1


def test_logs_before_spans(store: Store) -> None:
    """Logs that come before the spans of their trace are kept with it."""
    store.add_logs([stored_log(1)])
    assert (store.search(), store.recent(limit=5)) == ([], [])
    store.add_spans([stored_span(1)])
    assert store.search() == [trace_id(1)]
    assert store.logs(trace_id(1)) == [stored_log(1)]


def test_operations_go_too(store: Store) -> None:
    """An operation is forgotten with the last trace that had it, so that names cannot fill the file."""
    store.add_spans([stored_span(1, service="once"), stored_span(1, 2, service="often")])
    for trace in range(2, 3000):
        name = f"{trace} " + "x" * KIB
        store.add_spans([stored_span(trace, service="often"), stored_span(trace, 2, service="names", name=name)])
    assert store.services() == ["names", "often"]
    assert store.operations("often") == [("GET /", 2)]
    assert len(store.operations("names")) == store.counts()[0]


def test_search(store: Store) -> None:
    """Traces are found by service, operation and time, the newest first."""
    store.add_spans(
        [
            stored_span(1, start_ns=10, name="a"),
            stored_span(2, start_ns=30, name="b"),
            stored_span(2, 2, 1, start_ns=40, name="c", service="payments"),
            stored_span(3, start_ns=20, name="c"),
        ]
    )
    assert store.search() == [trace_id(2), trace_id(3), trace_id(1)]
    assert store.search(limit=1) == [trace_id(2)]
    assert store.search(service="payments") == [trace_id(2)]
    assert store.search(operation="c") == [trace_id(2), trace_id(3)]
    assert store.search(service="orders", operation="c") == [trace_id(3)]
    assert store.search(start_ns=START_NS + 20, end_ns=START_NS + 29) == [trace_id(3)]


def test_recent(store: Store) -> None:
    """A summary counts spans and errors by service, and spans the whole time."""
    root = stored_span(1, 1, start_ns=10, end_ns=50)
    call = stored_span(1, 2, 1, start_ns=20, end_ns=60, service="payments", error=True)
    store.add_spans([call, root, stored_span(2, start_ns=5)])
    summary, other = store.recent(limit=5)
    assert (summary.start_ns - START_NS, summary.end_ns - START_NS) == (10, 60)
    assert (summary.spans, summary.errors, summary.root.span_id) == (2, 1, root.span_id)
    assert summary.services == [("orders", 1, 0), ("payments", 1, 1)]
    assert other.trace_id == trace_id(2)
    assert [one.trace_id for one in store.recent(service="payments", limit=5)] == [trace_id(1)]


@pytest.mark.parametrize(
    ("spans", "root"),
    [
        ([stored_span(1, 1, 9, start_ns=0), stored_span(1, 2, start_ns=5)], 2),
        ([stored_span(1, 1, 9, start_ns=5), stored_span(1, 2, 1, start_ns=0)], 2),
        ([stored_span(1, 1, start_ns=5), stored_span(1, 2, start_ns=0)], 2),
    ],
    ids=["orphan before it", "root not come", "two roots"],
)
def test_root(store: Store, spans: list[StoredSpan], root: int) -> None:
    """The root is the earliest span without a parent or, if all have one, the earliest."""
    store.add_spans(spans)
    assert store.recent(limit=1)[0].root.span_id == span_id(root)


def test_full_disk(store: Store) -> None:
    """A write that finds the disk full says so and leaves nothing; the next one finds the store in order."""
    store.add_spans([stored_span(1)])
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add_spans([stored_span(2, message=bytes(100 * KIB))])
    store._writer.execute("PRAGMA max_page_count = 100000")
    store.add_spans([stored_span(3)])
    assert store.counts() == (2, 2)
