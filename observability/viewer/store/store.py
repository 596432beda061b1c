"""The latest traces, logs and metrics, in a file of bounded size."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from observability.viewer.query import Query
from observability.viewer.store import blocks, calls, logs, metrics, retention, statistics, traces, vocabulary
from observability.viewer.store.arriving import ArrivingTraces
from observability.viewer.store.bodies import Visit, read_failures, visit_spans
from observability.viewer.store.calls import Calls, read_calls
from observability.viewer.store.completion import complete_keys, complete_values
from observability.viewer.store.database import Database
from observability.viewer.store.find import find_logs, find_traces
from observability.viewer.store.links import read_links_from, read_links_to
from observability.viewer.store.logs import LogWriter, read_logs
from observability.viewer.store.metrics import Instrument, Series, read_instruments, read_points, write_metrics
from observability.viewer.store.outline import Alike, read_alike
from observability.viewer.store.retention import evict
from observability.viewer.store.statistics import OperationStatistics, read_statistics
from observability.viewer.store.stored import Found, FoundLogs, Link, LinkEnd, StoredLog, StoredSpan
from observability.viewer.store.traces import SpanWriter, read_trace
from observability.viewer.store.unfinished import SpanKey, Unfinished, which_arrived

MAX_BYTES = 256 * 1024 * 1024
MAX_AGE_S = 7 * 24 * 3600.0
# Of the whole, what one trace may take, and what all metrics may: so that others stay when one never ends.
_TRACE_SHARE = _METRICS_SHARE = 8

_SCHEMA = "".join(
    (
        traces.SCHEMA,
        logs.SCHEMA,
        blocks.schema("span"),
        blocks.schema("log"),
        vocabulary.SCHEMA,
        statistics.SCHEMA,
        calls.SCHEMA,
        metrics.SCHEMA,
        retention.SCHEMA,
    )
)


class Store:
    """Where the viewer keeps what it received.

    A write survives the end of the process when the call returns. A span that comes twice is kept once, as it came
    first. When the file would hold more than `max_bytes`, or something came more than `max_age_s` ago, the traces
    that arrived first go, whole, with their logs and with the operations and statistics that no other trace has had
    since. The file itself grows to that size and one write more. One trace may have `traces.MAX_SPANS_PER_TRACE`
    spans and, with its logs, an eighth of the bytes as they were sent.

    Reads return copies, never wait for a write, see each write whole or not at all, and find nothing of a trace that is
    not known. Methods block, and may be called from any thread; several processes may share a folder. All raise
    `sqlite3.Error` if the file fails them.

    Attributes:
        unfinished: Spans that have not come because they still run; in memory alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
        max_age_s: float = MAX_AGE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open the file in a folder.

        Raises:
            DatabaseError: The folder cannot be used.
        """
        self._max_bytes, self._max_age_s, self._now = max_bytes, max_age_s, now
        self._database = Database(folder, _SCHEMA)
        # Guards the writers, from decoding a request to the end of its transaction.
        self._lock = threading.Lock()
        self._traces = ArrivingTraces()
        self._spans, self._logs = SpanWriter(self._traces), LogWriter(self._traces)
        self.unfinished = Unfinished(self._arrived)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add_spans(self, body: bytes) -> Counter[str]:
        """Keep the spans of an encoded `ExportTraceServiceRequest`, all or, if it raises, none.

        Returns:
            How many were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message.
        """
        with self._lock, self._writing() as connection:
            return self._spans.write(connection, body, self._max_bytes // _TRACE_SHARE)

    def add_logs(self, body: bytes) -> Counter[str]:
        """Keep the log records of an encoded `ExportLogsServiceRequest`, all or, if it raises, none.

        They go with their trace, which need not have come yet; those without one with those that came at the same time.

        Returns:
            How many were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message.
        """
        with self._lock, self._writing() as connection:
            return self._logs.write(connection, body, self._max_bytes // _TRACE_SHARE)

    def add_metrics(self, body: bytes) -> Counter[str]:
        """Keep the points of an encoded `ExportMetricsServiceRequest`, all or, if it raises, none.

        Returns:
            How many were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message.
        """
        request = ExportMetricsServiceRequest.FromString(body)
        with self._lock, self._writing() as connection:
            return write_metrics(connection, request, self._max_bytes // _METRICS_SHARE)

    def services(self) -> list[str]:
        """Names of the services that spans came from, sorted."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT DISTINCT service FROM operations ORDER BY service")
            return [row[0] for row in rows]

    def operations(self, service: str) -> list[tuple[str, int]]:
        """Names and kinds of a service's spans, sorted."""
        with self._database.reading() as connection:
            query = "SELECT name, kind FROM operations WHERE service = ? ORDER BY name, kind"
            return connection.execute(query, (service,)).fetchall()

    def find(self, query: Query, *, start_ns: int | None = None, end_ns: int | None = None, limit: int = 50) -> Found:
        """The newest traces that began within the time, and of which one span meets the whole query."""
        with self._database.reading() as connection:
            return find_traces(connection, query, start_ns, end_ns, limit)

    def trace(self, trace_id: bytes) -> list[StoredSpan]:
        """The spans of a trace by their start; empty if it is not known."""
        with self._database.reading() as connection:
            return read_trace(connection, trace_id)

    def alike(self, trace_id: bytes) -> Alike | None:
        """A trace beside others of the same request, without their bodies; None if it is not known."""
        with self._database.reading() as connection:
            return read_alike(connection, trace_id)

    def visit(self, trace_ids: Sequence[bytes], visit: Visit) -> int:
        """Visit the spans of traces, as far as the time goes; how many traces were visited, from the first one on."""
        with self._database.reading() as connection:
            return visit_spans(connection, trace_ids, visit)

    def failures(self, trace_ids: Sequence[bytes]) -> tuple[list[StoredSpan], bool]:
        """Of traces the spans that failed and below which none did; whether that was all, within the time."""
        with self._database.reading() as connection:
            return read_failures(connection, trace_ids)

    def logs(self, trace_id: bytes) -> list[StoredLog]:
        """The log records of a trace by time; empty if there are none."""
        with self._database.reading() as connection:
            return read_logs(connection, trace_id)

    def find_logs(
        self, query: Query, *, start_ns: int | None = None, end_ns: int | None = None, limit: int = 200
    ) -> FoundLogs:
        """The newest log records within the time that meet the whole query."""
        with self._database.reading() as connection:
            return find_logs(connection, query, start_ns, end_ns, limit)

    def links_from(self, trace_id: bytes) -> list[Link]:
        """Spans of other traces that link to one of this trace."""
        with self._database.reading() as connection:
            return read_links_from(connection, trace_id)

    def links_to(self, trace_id: bytes) -> list[LinkEnd]:
        """Spans of other traces that this trace links to, kept or not."""
        with self._database.reading() as connection:
            return read_links_to(connection, trace_id)

    def keys(self, prefix: str) -> list[str]:
        """Keys of fields and attributes that begin so, sorted, at most 50."""
        with self._database.reading() as connection:
            return complete_keys(connection, prefix)

    def values(self, key: str, prefix: str) -> list[str]:
        """Values of a field or an attribute that begin so and came more than once, sorted, at most 50."""
        with self._database.reading() as connection:
            return complete_values(connection, key, prefix)

    def operations_between(self, start_ns: int, end_ns: int) -> list[OperationStatistics]:
        """Statistics of every operation in the minutes from the one of `start_ns` to that of `end_ns`."""
        with self._database.reading() as connection:
            return read_statistics(connection, start_ns, end_ns)

    def calls_between(self, start_ns: int, end_ns: int) -> list[Calls]:
        """Calls between services in the minutes from the one of `start_ns` to that of `end_ns`, by their start."""
        with self._database.reading() as connection:
            return read_calls(connection, start_ns, end_ns)

    def instruments(self) -> list[Instrument]:
        """What is measured, by service and name."""
        with self._database.reading() as connection:
            return read_instruments(connection)

    def points(self, service: str, name: str, start_ns: int, end_ns: int) -> list[Series]:
        """The points of an instrument within the time, by series; none if it is not known."""
        with self._database.reading() as connection:
            return read_points(connection, service, name, start_ns, end_ns)

    def counts(self) -> tuple[int, int]:
        """How many traces and spans are kept."""
        with self._database.reading() as connection:
            ((found, spans),) = connection.execute(
                "SELECT count(*), coalesce(sum(spans), 0) FROM traces WHERE spans > 0"
            ).fetchall()
            return int(found), int(spans)

    def _arrived(self, keys: Collection[SpanKey]) -> set[SpanKey]:
        with self._database.reading() as connection:
            return which_arrived(connection, keys)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.writing() as connection:
                yield connection
                self._traces.dropped(evict(connection, self._max_bytes, self._max_age_s, self._now()))
        except BaseException:
            self._traces.forget()
            self._spans.forget()
            self._logs.forget()
            raise
