from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import equals, parse
from observability.viewer.store import Store, traces
from tests.observability.viewer.samples import (
    START_NS,
    add,
    add_logs,
    log,
    noise,
    number,
    request,
    span,
    span_id,
    text,
    trace_id,
)

KIB = 1024


def _bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".db-shm")


def _found(store: Store, query: str = "", **bounds: int) -> list[int]:
    return [int.from_bytes(one.trace_id) for one in store.find(parse(query), **bounds).traces]


def test_trace(store: Store) -> None:
    """The spans of a trace come by their start, as they were sent, and those of another do not."""
    late, early = span(1, 2, 1, start_ns=500), span(1, 1, start_ns=0, attributes=[text("key", "value")])
    add(store, late, early, span(2))
    assert [Span.FromString(one.span) for one in store.trace(trace_id(1))] == [early, late]
    assert store.trace(trace_id(3)) == []


def test_trace_of_several_requests(store: Store) -> None:
    """A trace is whole whoever sent its parts, in requests of whatever size."""
    add(store, span(1, 1), *(span(trace, 1) for trace in range(100, 500)))
    add(store, span(1, 2, 1, start_ns=5), service="payments")
    for index in range(3, 200):
        add(store, span(1, index, 1, start_ns=index * 10))
    found = store.trace(trace_id(1))
    assert [one.span_id for one in found] == [span_id(index) for index in range(1, 200)]
    assert [one.service for one in found[:3]] == ["orders", "payments", "orders"]
    assert all(Span.FromString(one.span).span_id == one.span_id for one in found)


def test_repeated_span(store: Store) -> None:
    """A span that comes twice is kept once, as it came first."""
    add(store, span(1, name="first"), span(1, name="second"))
    add(store, span(1, name="third"), span(1, 2))
    assert [one.name for one in store.trace(trace_id(1))] == ["first", "GET /"]
    assert store.counts() == (1, 2)
    assert store.operations("orders") == [("GET /", 2), ("first", 2)]


def test_restart(tmp_path: Path) -> None:
    """What was stored is there after a restart."""
    with closing(Store(tmp_path)) as store:
        add(store, span(1))
    with closing(Store(tmp_path)) as store:
        assert store.counts() == (1, 1)


def test_nothing_by_halves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a write fails in the middle, nothing of it is there, and the next one finds the store in order."""

    def fail(*_: object) -> None:
        raise KeyError

    spans = [span(index, attributes=[text("key", "value")]) for index in range(1, 400)]
    with monkeypatch.context() as patch:
        patch.setattr(traces, "_write_links", fail)
        with pytest.raises(KeyError):
            add(store, *spans)
    assert store.counts() == (0, 0)
    add(store, *spans)
    assert len(_found(store, "key=value", limit=1000)) == 399
    assert store.values("key", "") == ["value"]


def test_undecodable_attribute(store: Store) -> None:
    """A request with one broken attribute is refused whole."""
    body = request([span(1), span(2, attributes=[text("key", "value")])]).SerializeToString()
    with pytest.raises(DecodeError):
        store.add_spans(body.replace(b"value", b"val\xffe"))
    assert store.counts() == (0, 0)


def test_readers_do_not_wait(store: Store) -> None:
    """While something is being written, readers see what was there before."""
    add(store, span(1))
    with store._database.writing() as connection:
        connection.execute("DELETE FROM traces")
        assert store.counts() == (1, 1)
    assert store.counts() == (0, 0)


def test_two_stores(tmp_path: Path) -> None:
    """Two stores on one folder write in turn, and each sees what the other wrote."""
    with closing(Store(tmp_path)) as one, closing(Store(tmp_path)) as other:
        for index in range(1, 501):
            add(one if index % 2 else other, span(index, attributes=[number("index", index), text("key", "value")]))
        assert one.counts() == other.counts() == (500, 500)
        assert _found(one, "index=77") == _found(other, "index=77") == [77]
        assert len(_found(other, "NOT key=val*", limit=1000)) == 0


def test_oldest_go_first(store: Store, tmp_path: Path) -> None:
    """Beyond its bytes the store lets the traces go that arrived first, whole, and its file does not grow."""
    for trace in range(1, 401):
        add_logs(store, log(trace, attributes=[noise(KIB)]))
        add(store, *(span(trace, index, attributes=[noise(KIB)]) for index in range(1, 11)))
    kept = [trace for trace in range(1, 401) if store.trace(trace_id(trace))]
    assert kept == list(range(kept[0], 401))
    assert len(kept) > 80
    assert all(len(store.trace(trace_id(trace))) == 10 for trace in kept)
    assert sorted(_found(store, limit=1000)) == kept
    assert store.logs(trace_id(kept[0] - 1)) == []
    assert len(store.logs(trace_id(kept[0]))) == 1
    assert len(store.find_logs((), limit=1000).logs) == len(kept)
    assert _bytes_on_disk(tmp_path) < 24 * 1024 * KIB  # 2 MiB, and the write-ahead log between two checkpoints


def test_file_size(store: Store, tmp_path: Path) -> None:
    """The file itself stays at the bytes that it may hold and one write more."""
    for trace in range(1, 401):
        add(store, *(span(trace, index, attributes=[noise(KIB)]) for index in range(1, 11)))
    store.close()
    assert (tmp_path / "viewer.db").stat().st_size < 3 * 1024 * KIB


def test_log_of_a_large_write(tmp_path: Path) -> None:
    """A large write leaves no large write-ahead log behind."""
    with closing(Store(tmp_path)) as store:
        for first in (1, 11, 21, 31):
            add(store, *(span(trace, attributes=[noise(1000 * KIB)]) for trace in range(first, first + 10)))
        for trace in (41, 42):
            add(store, span(trace))
        assert (tmp_path / "viewer.db-wal").stat().st_size <= 16 * 1024 * KIB


def test_age(tmp_path: Path) -> None:
    """What came too long ago goes with the next write."""
    now = 1e9
    with closing(Store(tmp_path, max_age_s=3600, now=lambda: now)) as store:
        add(store, span(1))
        add_logs(store, log(None))
        now += 1800
        add(store, span(2))
        assert _found(store) == [2, 1]
        now += 1900
        add(store, span(3))
        assert _found(store) == [3, 2]
        assert store.find_logs(()).logs == []


def test_endless_trace(store: Store) -> None:
    """A trace that never ends is refused more than its share of bytes, and the others stay."""
    add(store, span(1))
    refused = add(store, *(span(2, index, attributes=[noise(KIB)]) for index in range(1, 4001)))
    assert len(store.trace(trace_id(2))) == 4000 - refused
    assert 100 < 4000 - refused < 256
    assert store.counts()[0] == 2


def test_endless_logs(store: Store) -> None:
    """The logs of a trace count among its bytes."""
    refused = add_logs(store, *(log(1, attributes=[noise(KIB)]) for _ in range(1000)))
    assert len(store.logs(trace_id(1))) == 1000 - refused
    assert add(store, span(1, attributes=[noise(KIB)])) == 1


def test_spans_per_trace(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace is refused more spans than a page can show."""
    monkeypatch.setattr(traces, "MAX_SPANS_PER_TRACE", 3)
    assert add(store, *(span(1, index) for index in range(1, 6))) == 2
    assert add(store, span(1, 9), span(1, 1)) == 1


def test_logs_of_no_trace(store: Store) -> None:
    """Logs without a trace, and those whose spans never come, go like any trace, and are no trace in the list."""
    add(store, span(1))
    for trace in range(2, 3000):
        add_logs(store, log(trace, attributes=[noise(KIB)]), log(None, time_ns=trace, attributes=[noise(KIB)]))
    assert (_found(store), store.counts()) == ([], (0, 0))
    assert store.logs(trace_id(2)) == []
    assert len(store.logs(trace_id(2999))) == 1
    kept = [one for one in store.find_logs((), limit=10_000).logs if not one.trace_id]
    assert kept[0].time_ns == START_NS + 2999
    assert 300 < len(kept) < 1200


def test_logs_before_spans(store: Store) -> None:
    """Logs that come before the spans of their trace are kept with it."""
    add_logs(store, log(1, body="early"))
    assert (_found(store), store.find((), limit=5).traces) == ([], [])
    add(store, span(1))
    assert _found(store) == [1]
    assert len(store.logs(trace_id(1))) == 1


def test_operations_go_too(store: Store) -> None:
    """An operation is forgotten with the last trace that had it, so that names cannot fill the file."""
    add(store, span(1), service="once")
    add(store, span(1, 2), service="often")
    for trace in range(2, 3000):
        name = f"{trace} " + random.randbytes(400).hex()  # noqa: S311 - no secret
        add(store, span(trace), service="often")
        add(store, span(trace, 2, name=name), service="names")
    assert store.services() == ["names", "often"]
    assert store.operations("often") == [("GET /", 2)]
    assert len(store.operations("names")) == store.counts()[0]
    assert len(store.operations_between(0, 2**63 - 1)) == store.counts()[0] + 1


def test_recent(store: Store) -> None:
    """A summary counts spans and errors by service, and spans the whole time."""
    add(store, span(1, 2, 1, start_ns=20, end_ns=60, error=True), service="payments")
    add(store, span(1, 1, start_ns=10, end_ns=50, attributes=[number("http.response.status_code", 418)]))
    add(store, span(2, start_ns=5))
    summary, other = store.find((), limit=5).traces
    assert (summary.start_ns - START_NS, summary.end_ns - START_NS) == (10, 60)
    assert (summary.spans, summary.errors) == (2, 1)
    assert (summary.root.span_id, summary.root.service, summary.root.http_status) == (span_id(1), "orders", 418)
    assert summary.services == [("orders", 1, 0), ("payments", 1, 1)]
    assert other.trace_id == trace_id(2)
    assert [one.trace_id for one in store.find((equals("service", "payments"),), limit=5).traces] == [trace_id(1)]


@pytest.mark.parametrize(
    ("spans", "root"),
    [
        ([span(1, 1, 9, start_ns=0), span(1, 2, start_ns=5)], 2),
        ([span(1, 1, 9, start_ns=5), span(1, 2, 1, start_ns=0)], 2),
        ([span(1, 1, start_ns=5), span(1, 2, start_ns=0)], 2),
    ],
    ids=["orphan before it", "root not come", "two roots"],
)
def test_root(store: Store, spans: list[Span], root: int) -> None:
    """The root is the earliest span without a parent or, if all have one, the earliest."""
    add(store, *spans)
    assert store.find((), limit=1).traces[0].root.span_id == span_id(root)


def test_full_disk(store: Store) -> None:
    """A write that finds the disk full says so and leaves nothing; the next one finds the store in order."""
    add(store, span(1))
    writer = store._database._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        add(store, span(2, attributes=[noise(100 * KIB)]))
    writer.execute("PRAGMA max_page_count = 100000")
    add(store, span(3))
    assert store.counts() == (2, 2)


KILLED = """
import sys
from pathlib import Path
from observability.viewer.store import Store
from tests.observability.viewer.samples import add, span
store = Store(Path(sys.argv[1]))
for request in range(1, 100_000):
    # Of two traces, one of which the request before began, so that none is ever whole by chance.
    size = request % 7 * 60 + 1
    spans = [span(request + index % 2, request * 1000 + index) for index in range(size)]
    add(store, *spans)
    print(request, flush=True)
"""


def test_killed(tmp_path: Path) -> None:
    """What was stored when a process is killed is there, and nothing of what was not is there by halves."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        lines: Iterator[str] = iter(process.stdout.readline, "")
        while int(next(lines)) < 60:
            pass
    finally:
        process.kill()
    stored = [60, *(int(line) for line in lines if line.endswith("\n"))][-1]
    process.wait()
    process.stdout.close()
    with closing(Store(tmp_path)) as store:
        held = {int.from_bytes(one.span_id) for trace in range(1, stored + 4) for one in store.trace(trace_id(trace))}
        for size in range(1, stored + 2):
            expected = {size * 1000 + index for index in range(size % 7 * 60 + 1)}
            assert expected <= held or (size == stored + 1 and not expected & held)
        assert store.counts()[1] == len(held)
        add(store, span(999_999))
        assert len(store.trace(trace_id(999_999))) == 1
