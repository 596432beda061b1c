"""The latest traces and their logs, in a file of bounded size."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.database import open_database
from observability.viewer.fields import KINDS, SEVERITIES, STATUSES, attribute_values, searched_log, searched_span
from observability.viewer.metrics import (
    INSTRUMENTS,
    POINTS,
    Instrument,
    Series,
    read_instruments,
    read_series,
    write_metrics,
)
from observability.viewer.query import FIELDS, Query, as_text
from observability.viewer.statistics import (
    MINUTE_NS,
    Bucket,
    Calls,
    Minute,
    OperationStatistics,
    bucket_from,
    bucket_of,
)
from observability.viewer.stored import ROW_BYTES, Found, Link, Root, StoredLog, StoredSpan, Summary

MAX_BYTES = 256 * 1024 * 1024
MAX_SPANS_PER_TRACE = 20_000
# Of the whole, what one trace may take: so that others stay when one never ends.
_TRACE_SHARE = 8

_METRICS_SHARE = 8
_MOST_COMPLETIONS = 50
_MAX_NS = 2**63 - 1

_SPAN_COLUMNS = "span_id, parent_id, service, name, kind, error, start_ns, end_ns, span, resource, scope"


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
                    Summary(trace_id, start_ns, end_ns, spans, errors, _root(_span(trace_id, root)), services)
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
            "SELECT span_id, time_ns, service, record, resource, scope FROM logs"
            " WHERE trace = (SELECT number FROM traces WHERE trace_id = ?) ORDER BY time_ns"
        )
        return [StoredLog(trace_id, *row) for row in self._read(query, (trace_id,))]

    def counts(self) -> tuple[int, int]:
        """How many traces and spans are kept."""
        ((traces, spans),) = self._read("SELECT count(*), coalesce(sum(spans), 0) FROM traces WHERE spans > 0")
        return int(traces), int(spans)

    def find(self, query: Query, *, start_ns: int | None = None, end_ns: int | None = None, limit: int = 50) -> Found:
        """The newest traces that began within the time, and of which one span meets the whole query."""
        found: list[Summary] = []
        for trace_id in self.search(start_ns=start_ns, end_ns=end_ns, limit=1500):
            if any(searched_span(span).meets(query) for span in self.trace(trace_id)):
                found += self._summary(trace_id)
                if len(found) == limit:
                    break
        return Found(found, complete=True, searched_to_ns=0)

    def find_logs(
        self, query: Query, *, start_ns: int | None = None, end_ns: int | None = None, limit: int = 200
    ) -> list[StoredLog]:
        """The newest log records within the time that meet the whole query, newest first."""
        rows = self._read(
            "SELECT t.trace_id, l.span_id, l.time_ns, l.service, l.record, l.resource, l.scope FROM logs l"
            " JOIN traces t ON t.number = l.trace WHERE l.time_ns BETWEEN ? AND ? ORDER BY l.time_ns DESC",
            (start_ns or 0, _MAX_NS if end_ns is None else end_ns),
        )
        return [log for log in (StoredLog(*row) for row in rows) if searched_log(log).meets(query)][:limit]

    def keys(self, prefix: str) -> list[str]:
        """Keys of fields and attributes that begin so, sorted, at most 50."""
        keys = {key for span in self._all_spans() for key in attribute_values(Span.FromString(span.span).attributes)}
        return sorted(key for key in keys | FIELDS.keys() if key.startswith(prefix))[:_MOST_COMPLETIONS]

    def values(self, key: str, prefix: str) -> list[str]:
        """Values of a field or an attribute that begin so, sorted, at most 50."""
        match key:
            case "service":
                values = set(self.services())
            case "operation":
                values = {row[0] for row in self._read("SELECT DISTINCT name FROM operations")}
            case "kind":
                values = set(KINDS.values())
            case "status":
                values = set(STATUSES.values())
            case "severity":
                values = set(SEVERITIES)
            case "error":
                values = {"true", "false"}
            case _:
                found = (searched_span(span).value(key) for span in self._all_spans())
                values = {as_text(value) for value in found if value is not None}
        return sorted(value for value in values if value.startswith(prefix))[:_MOST_COMPLETIONS]

    def operations_between(self, start_ns: int, end_ns: int) -> list[OperationStatistics]:
        """Statistics of every operation in the minutes from the one of `start_ns` to that of `end_ns`."""
        minutes: dict[tuple[str, str, int], dict[int, list[StoredSpan]]] = {}
        for span in self._all_spans():
            minute = span.start_ns // MINUTE_NS
            if start_ns // MINUTE_NS <= minute <= end_ns // MINUTE_NS:
                operation = minutes.setdefault((span.service, span.name, span.kind), {})
                operation.setdefault(minute * MINUTE_NS, []).append(span)
        return [
            OperationStatistics(
                *operation,
                sum(map(len, by_minute.values())),
                sum(span.error for spans in by_minute.values() for span in spans),
                _buckets([span for spans in by_minute.values() for span in spans]),
                [
                    Minute(minute, len(spans), sum(span.error for span in spans), _buckets(spans))
                    for minute, spans in sorted(by_minute.items())
                ],
            )
            for operation, by_minute in sorted(minutes.items())
        ]

    def calls_between(self, start_ns: int, end_ns: int) -> list[Calls]:
        """Calls between services in the minutes from the one of `start_ns` to that of `end_ns`, by their start."""
        spans = {(span.trace_id, span.span_id): span for span in self._all_spans()}
        counts: dict[tuple[str, str, bool], list[int]] = {}
        for span in spans.values():
            parent = spans.get((span.trace_id, span.parent_id))
            within = start_ns // MINUTE_NS <= span.start_ns // MINUTE_NS <= end_ns // MINUTE_NS
            if within and parent and parent.service != span.service:
                messaging = parent.kind == Span.SPAN_KIND_PRODUCER or span.kind == Span.SPAN_KIND_CONSUMER
                count = counts.setdefault((parent.service, span.service, messaging), [0, 0])
                count[0] += 1
                count[1] += span.error
        return [Calls(*edge, *count) for edge, count in sorted(counts.items())]

    def links_to(self, trace_id: bytes) -> list[Link]:
        """Spans of other traces that link to one of this trace."""
        return [
            Link(span.trace_id, span.span_id, link.span_id)
            for span in self._all_spans()
            if span.trace_id != trace_id
            for link in Span.FromString(span.span).links
            if link.trace_id == trace_id
        ]

    def add_metrics(self, request: ExportMetricsServiceRequest) -> int:
        """Keep the points of a request, all or, if it raises, none.

        Returns:
            How many were refused because they are too large.
        """
        with self._transaction():
            return write_metrics(self._writer, request, self._max_bytes // _METRICS_SHARE)

    def instruments(self) -> list[Instrument]:
        """What is measured, by service and name."""
        return read_instruments(self._read(INSTRUMENTS))

    def points(self, service: str, name: str, start_ns: int, end_ns: int) -> list[Series]:
        """The points of an instrument within the time, by series; none if it is not known."""
        return read_series(self._read(POINTS, (start_ns, end_ns, service, name)))

    def _all_spans(self) -> list[StoredSpan]:
        return [span for trace_id in self.search(limit=1500) for span in self.trace(trace_id)]

    def _summary(self, trace_id: bytes) -> list[Summary]:
        return [one for one in self.recent(limit=1500) if one.trace_id == trace_id]

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
        number = self._room(log.trace_id, len(log.record) + ROW_BYTES)
        if number is None:
            return False
        execute("UPDATE traces SET bytes = bytes + ? WHERE number = ?", (len(log.record) + ROW_BYTES, number))
        execute(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, log.span_id, log.time_ns, log.service, log.record, log.resource, log.scope),
        )
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


def _root(span: StoredSpan) -> Root:
    status = attribute_values(Span.FromString(span.span).attributes).get("http.response.status_code")
    return Root(
        span.span_id,
        span.service,
        span.name,
        span.kind,
        span.error,
        span.start_ns,
        span.end_ns,
        status if isinstance(status, int) and status else None,
    )


def _buckets(spans: list[StoredSpan]) -> list[Bucket]:
    counts: dict[int, list[StoredSpan]] = {}
    for span in spans:
        counts.setdefault(bucket_of(span.end_ns - span.start_ns), []).append(span)
    return [
        Bucket(bucket_from(number), bucket_from(number + 1), len(some), some[-1].trace_id)
        for number, some in sorted(counts.items())
    ]
