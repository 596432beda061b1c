"""The latest traces and their logs in a SQLite file of bounded size."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SPANS = 500_000
MAX_SPANS_PER_TRACE = 20_000
_EVICT_EVERY = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
    trace_id BLOB NOT NULL, span_id BLOB NOT NULL, parent_id BLOB NOT NULL,
    service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, error INTEGER NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    span BLOB NOT NULL, resource BLOB NOT NULL, scope BLOB NOT NULL,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS traces (
    trace_id BLOB PRIMARY KEY, first_seen INTEGER NOT NULL, start_ns INTEGER NOT NULL, spans INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_by_start ON traces (start_ns);
CREATE TABLE IF NOT EXISTS operations (
    service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (service, name, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trace_services (
    service TEXT NOT NULL, start_ns INTEGER NOT NULL, trace_id BLOB NOT NULL, PRIMARY KEY (service, trace_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    trace_id BLOB NOT NULL, span_id BLOB NOT NULL, time_ns INTEGER NOT NULL, service TEXT NOT NULL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS logs_by_trace ON logs (trace_id, time_ns);
"""


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span: what is searched for, and its encoded protobuf messages. Ids are bytes, times nanoseconds."""

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


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One log record that belongs to a span."""

    trace_id: bytes
    span_id: bytes
    time_ns: int
    service: str
    record: bytes


class Store:
    """Where the viewer keeps what it received.

    A write is durable when the call returns. A span that comes twice is kept once, as it came first. When there are
    more than `max_spans`, the traces that arrived first go, whole; of one trace at most `MAX_SPANS_PER_TRACE` are kept.
    Reads return copies; a trace that is not known is an empty list. Methods block and may be called from any thread.
    """

    def __init__(self, folder: Path, *, max_spans: int = MAX_SPANS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._max_spans = max_spans
        # One connection, one lock: held for each call, never across one.
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(folder / "viewer.db", check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self._connection.executescript(_SCHEMA)
        self._count = int(self._one("SELECT count(*) FROM spans")[0])
        self._sequence = int(self._one("SELECT coalesce(max(first_seen), 0) FROM traces")[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def add_spans(self, spans: Iterable[StoredSpan]) -> int:
        """Keep spans.

        Returns:
            How many were refused because their trace is full.
        """
        refused = 0
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for span in spans:
                    refused += self._add(span)
                while self._count > self._max_spans:
                    self._evict()
            except BaseException:
                self._connection.execute("ROLLBACK")
                self._count = int(self._one("SELECT count(*) FROM spans")[0])
                raise
            self._connection.execute("COMMIT")
        return refused

    def add_logs(self, logs: Iterable[StoredLog]) -> None:
        """Keep log records of traces; they go with their trace."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(
                    "INSERT INTO logs VALUES (?, ?, ?, ?, ?)",
                    [(log.trace_id, log.span_id, log.time_ns, log.service, log.record) for log in logs],
                )
                # Logs of traces that have no spans must not grow without bound either.
                self._connection.execute(
                    "DELETE FROM logs WHERE rowid <= (SELECT max(rowid) FROM logs) - ?", (self._max_spans,)
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def services(self) -> list[str]:
        """Names of the services that spans came from, sorted."""
        return [row[0] for row in self._all("SELECT DISTINCT service FROM operations ORDER BY service")]

    def operations(self, service: str) -> list[tuple[str, int]]:
        """Names and kinds of a service's spans, sorted."""
        return [
            (name, kind)
            for name, kind in self._all(
                "SELECT name, kind FROM operations WHERE service = ? ORDER BY name, kind", (service,)
            )
        ]

    def search(
        self,
        *,
        service: str | None = None,
        operation: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 20,
    ) -> list[bytes]:
        """Ids of traces from the newest to the oldest by the start of their first span."""
        conditions, values = ["1"], list[Any]()
        source = "traces t"
        if service is not None:
            source = "trace_services t"
            conditions.append("t.service = ?")
            values.append(service)
        if operation is not None:
            conditions.append("EXISTS (SELECT 1 FROM spans s WHERE s.trace_id = t.trace_id AND s.name = ?")
            values.append(operation)
            if service is not None:
                conditions[-1] += " AND s.service = ?"
                values.append(service)
            conditions[-1] += ")"
        if start_ns is not None:
            conditions.append("t.start_ns >= ?")
            values.append(start_ns)
        if end_ns is not None:
            conditions.append("t.start_ns <= ?")
            values.append(end_ns)
        query = f"SELECT t.trace_id FROM {source} WHERE {' AND '.join(conditions)} ORDER BY t.start_ns DESC LIMIT ?"  # noqa: S608 - of constants
        return [row[0] for row in self._all(query, (*values, limit))]

    def trace(self, trace_id: bytes) -> list[StoredSpan]:
        """The spans of a trace by their start; empty if it is not known."""
        rows = self._all("SELECT * FROM spans WHERE trace_id = ? ORDER BY start_ns, span_id", (trace_id,))
        return [StoredSpan(*(*row[:6], bool(row[6]), *row[7:])) for row in rows]

    def spans_and_ids(self) -> tuple[int, int]:
        """How many spans and traces are kept."""
        spans, traces = self._one("SELECT coalesce(sum(spans), 0), count(*) FROM traces")
        return int(spans), int(traces)

    def logs(self, trace_id: bytes) -> list[StoredLog]:
        """The log records of a trace by time; empty if there are none."""
        query = "SELECT trace_id, span_id, time_ns, service, record FROM logs WHERE trace_id = ? ORDER BY time_ns"
        return [StoredLog(*row) for row in self._all(query, (trace_id,))]

    def _add(self, span: StoredSpan) -> int:
        execute = self._connection.execute
        kept = execute("SELECT spans, start_ns FROM traces WHERE trace_id = ?", (span.trace_id,)).fetchone()
        if kept is not None and kept[0] >= MAX_SPANS_PER_TRACE:
            return 1
        inserted = execute(
            "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                span.trace_id,
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
            return 0
        self._count += 1
        start = span.start_ns if kept is None else min(kept[1], span.start_ns)
        self._sequence += kept is None
        execute(
            "INSERT INTO traces VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET spans = spans + 1, start_ns = ?",
            (span.trace_id, self._sequence, start, start),
        )
        execute(
            "INSERT INTO trace_services VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET start_ns = min(start_ns, ?)",
            (span.service, span.start_ns, span.trace_id, span.start_ns),
        )
        execute("INSERT OR IGNORE INTO operations VALUES (?, ?, ?)", (span.service, span.name, span.kind))
        return 0

    def _evict(self) -> None:
        """Let the traces that arrived first go, a batch of them, so that the next write need not."""
        execute = self._connection.execute
        room = max(1, min(_EVICT_EVERY, self._max_spans // 10))
        freed = 0
        for trace_id, spans in execute("SELECT trace_id, spans FROM traces ORDER BY first_seen LIMIT 1000").fetchall():
            for table in ("spans", "traces", "trace_services", "logs"):
                execute(f"DELETE FROM {table} WHERE trace_id = ?", (trace_id,))  # noqa: S608 - of constants
            freed += spans
            if freed >= room:
                break
        self._count -= freed

    def _all(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._connection.execute(query).fetchone()
        return row
