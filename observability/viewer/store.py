"""The latest traces and their logs, in a file of bounded size."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from observability.viewer.database import open_database

MAX_BYTES = 256 * 1024 * 1024
MAX_SPANS_PER_TRACE = 20_000
# Of the whole, what one trace may take: so that others stay when one never ends.
_TRACE_SHARE = 8
# What a row takes in the file beside its messages, roughly.
_ROW_BYTES = 128

_SPAN_COLUMNS = "span_id, parent_id, service, name, kind, error, start_ns, end_ns, span, resource, scope"


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span: what is searched for, and its encoded protobuf messages.

    Ids are bytes, that of no parent is empty; times are nanoseconds.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    service: str
    name: str
    kind: int
    error: bool
    start_ns: int
    end_ns: int
    span: bytes
    resource: bytes
    scope: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in the file, roughly."""
        return len(self.span) + len(self.resource) + len(self.scope) + _ROW_BYTES


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One log record that belongs to a trace."""

    trace_id: bytes
    span_id: bytes
    time_ns: int
    service: str
    record: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in the file, roughly."""
        return len(self.record) + _ROW_BYTES


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in one row. Its root is its earliest span without a parent or, if all have one, its earliest."""

    trace_id: bytes
    start_ns: int
    end_ns: int
    spans: int
    errors: int
    root: StoredSpan
    services: list[tuple[str, int, int]]
    """Name, spans and errors of each service, in the order in which they came into the trace."""


class Store:
    """Where the viewer keeps what it received.

    A write survives the end of the process when the call returns. A span that comes twice is kept once, as it came
    first. When the file would hold more than `max_bytes`, the traces that arrived first go, whole, with their logs and
    with the operations that no other trace has had since. The file itself grows to that size and one write more. One
    trace may have `MAX_SPANS_PER_TRACE` spans and, with its logs, an eighth of the bytes.

    Reads return copies, never wait for a write, and find nothing of a trace that is not known. Methods block, and may
    be called from any thread; several processes may share a folder. All raise `sqlite3.Error` if the file fails them.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._writer, self._reader = open_database(folder)
        # Each lock guards its connection and is held for one call; only `close` takes both.
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Close the file."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def add_spans(self, spans: Iterable[StoredSpan]) -> int:
        """Keep spans, all or, if it raises, none.

        Returns:
            How many were refused because their trace is full.
        """
        with self._transaction():
            return sum(not self._add_span(span) for span in spans)

    def add_logs(self, logs: Iterable[StoredLog]) -> int:
        """Keep log records, all or, if it raises, none; they go with their trace, which need not have come yet.

        Returns:
            How many were refused because their trace is full.
        """
        with self._transaction():
            return sum(not self._add_log(log) for log in logs)

    def services(self) -> list[str]:
        """Names of the services that spans came from, sorted."""
        return [row[0] for row in self._read("SELECT DISTINCT service FROM operations ORDER BY service")]

    def operations(self, service: str) -> list[tuple[str, int]]:
        """Names and kinds of a service's spans, sorted."""
        query = "SELECT name, kind FROM operations WHERE service = ? ORDER BY name, kind"
        return [(name, kind) for name, kind in self._read(query, (service,))]

    def search(
        self,
        *,
        service: str | None = None,
        operation: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 20,
    ) -> list[bytes]:
        """Ids of traces from the newest to the oldest, by the start of their first span (of that service)."""
        source, start = "traces t", "t.start_ns"
        conditions, values = ["t.spans > 0"], list[Any]()
        if service is not None:
            source, start = "services s JOIN traces t ON t.number = s.trace", "s.start_ns"
            conditions.append("s.service = ?")
            values.append(service)
        if operation is not None:
            of_service = "" if service is None else " AND o.service = s.service"
            conditions.append(f"EXISTS (SELECT 1 FROM spans o WHERE o.trace = t.number AND o.name = ?{of_service})")  # noqa: S608 - of constants
            values.append(operation)
        if start_ns is not None:
            conditions.append(f"{start} >= ?")
            values.append(start_ns)
        if end_ns is not None:
            conditions.append(f"{start} <= ?")
            values.append(end_ns)
        query = f"SELECT t.trace_id FROM {source} WHERE {' AND '.join(conditions)} ORDER BY {start} DESC LIMIT ?"  # noqa: S608 - of constants
        return [row[0] for row in self._read(query, (*values, limit))]

    def recent(self, *, service: str | None = None, limit: int) -> list[Summary]:
        """The newest traces, newest first, without reading all their spans."""
        found = []
        for trace_id in self.search(service=service, limit=limit):
            # A trace may go while it is looked at.
            for number, start_ns, end_ns, spans, errors in self._read(
                "SELECT number, start_ns, end_ns, spans, errors FROM traces WHERE trace_id = ?", (trace_id,)
            ):
                roots = self._read(
                    f"SELECT {_SPAN_COLUMNS} FROM spans WHERE trace = ? ORDER BY parent_id != x'', start_ns LIMIT 1",  # noqa: S608 - of constants
                    (number,),
                )
                services = self._read(
                    "SELECT service, spans, errors FROM services WHERE trace = ? ORDER BY start_ns", (number,)
                )
                found += [
                    Summary(trace_id, start_ns, end_ns, spans, errors, _span(trace_id, root), services)
                    for root in roots
                ]
        return found

    def trace(self, trace_id: bytes) -> list[StoredSpan]:
        """The spans of a trace by their start; empty if it is not known."""
        query = (
            f"SELECT {_SPAN_COLUMNS} FROM spans WHERE trace = (SELECT number FROM traces WHERE trace_id = ?)"  # noqa: S608 - of constants
            " ORDER BY start_ns, span_id"
        )
        return [_span(trace_id, row) for row in self._read(query, (trace_id,))]

    def logs(self, trace_id: bytes) -> list[StoredLog]:
        """The log records of a trace by time; empty if there are none."""
        query = (
            "SELECT span_id, time_ns, service, record FROM logs"
            " WHERE trace = (SELECT number FROM traces WHERE trace_id = ?) ORDER BY time_ns"
        )
        return [StoredLog(trace_id, *row) for row in self._read(query, (trace_id,))]

    def counts(self) -> tuple[int, int]:
        """How many traces and spans are kept."""
        ((traces, spans),) = self._read("SELECT count(*), coalesce(sum(spans), 0) FROM traces WHERE spans > 0")
        return int(traces), int(spans)

    def _add_span(self, span: StoredSpan) -> bool:
        execute = self._writer.execute
        number = self._room(span.trace_id, span.size)
        if number is None:
            return False
        inserted = execute(
            "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                span.span_id,
                span.parent_id,
                span.service,
                span.name,
                span.kind,
                span.error,
                span.start_ns,
                span.end_ns,
                span.span,
                span.resource,
                span.scope,
            ),
        ).rowcount
        if not inserted:
            return True
        execute(
            "UPDATE traces SET bytes = bytes + ?, spans = spans + 1, errors = errors + ?,"
            " start_ns = min(?, ifnull(start_ns, ?)), end_ns = max(?, ifnull(end_ns, 0)) WHERE number = ?",
            (span.size, span.error, span.start_ns, span.start_ns, span.end_ns, number),
        )
        execute(
            "INSERT INTO services VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET"
            " start_ns = min(start_ns, excluded.start_ns), spans = spans + 1, errors = errors + excluded.errors",
            (number, span.service, span.start_ns, span.error),
        )
        execute(
            "INSERT INTO operations VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET last_trace = excluded.last_trace"
            " WHERE last_trace < excluded.last_trace",
            (span.service, span.name, span.kind, number),
        )
        return True

    def _add_log(self, log: StoredLog) -> bool:
        execute = self._writer.execute
        number = self._room(log.trace_id, log.size)
        if number is None:
            return False
        execute("UPDATE traces SET bytes = bytes + ? WHERE number = ?", (log.size, number))
        execute("INSERT INTO logs VALUES (?, ?, ?, ?, ?)", (number, log.span_id, log.time_ns, log.service, log.record))
        return True

    def _room(self, trace_id: bytes, size: int) -> int | None:
        """The number of a trace, a new one if it is not known; nothing if it is full."""
        self._evict()
        execute = self._writer.execute
        known = execute("SELECT number, bytes, spans FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
        number, held, spans = known or (None, 0, 0)
        if held + size > self._max_bytes // _TRACE_SHARE or spans >= MAX_SPANS_PER_TRACE:
            return None
        return number or execute("INSERT INTO traces (trace_id) VALUES (?)", (trace_id,)).lastrowid

    def _evict(self) -> None:
        """Let the traces that arrived first go until the pages in use are few enough."""
        execute = self._writer.execute
        while self._bytes_in_use() > self._max_bytes:
            oldest = execute("SELECT min(number) FROM traces").fetchone()
            if oldest[0] is None:
                return
            for table in ("spans", "logs", "services"):
                execute(f"DELETE FROM {table} WHERE trace = ?", oldest)  # noqa: S608 - of constants
            execute("DELETE FROM traces WHERE number = ?", oldest)
            execute("DELETE FROM operations WHERE last_trace <= ?", oldest)

    def _bytes_in_use(self) -> int:
        pages, free, size = (
            self._writer.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # SQLite itself ends it when, for one, the disk is full
                    self._writer.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()


def _span(trace_id: bytes, row: tuple[Any, ...]) -> StoredSpan:
    return StoredSpan(trace_id, *(*row[:5], bool(row[5]), *row[6:]))
