"""Spans that still run, as their senders tell of them: in memory, since each is told of again while it runs.

A notice is a log record, an event named `clearspan.span.running`, whose ids, time, scope and resource are the span's.
Its attributes are the span's too, and beside them stand the span's name, kind and parent. `observability/unfinished.py`
sends them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store.arriving import in_batches
from observability.viewer.store.fields import KINDS, MAX_NAME, service_name
from observability.viewer.store.records import is_id
from observability.viewer.store.shares import Held
from observability.viewer.store.stored import StoredSpan
from observability.viewer.store.traces import INVALID_IDS
from observability.viewer.store.wire import Group, WireLog, join, parse_log, split

MAX_UNFINISHED = 4096
"""How many are kept; of more those go that were not heard of for the longest time."""

MAX_UNFINISHED_BYTES = 8 * 1024 * 1024
MAX_NOTICE_BYTES = 64 * 1024
FORGET_AFTER_S = 600.0
"""How long a span is kept that is not told of any more: its process is gone, most likely."""

SETTLE_EVERY_S = 1.0
"""How often it is looked which have ended, while nobody asks."""

TOO_LARGE = f"notices of more than {MAX_NOTICE_BYTES} bytes with their resource"
TOO_MANY = f"notices beyond the {MAX_UNFINISHED} of one request"

_RUNNING = "clearspan.span.running"
_MARK = _RUNNING.encode()
_NAME, _KIND, _PARENT = (f"clearspan.span.{member}" for member in ("name", "kind", "parent_id"))
_KIND_NUMBERS = {name: number for number, name in KINDS.items()}
_MAX_NS = 2**63 - 1
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8

SpanKey = tuple[bytes, bytes]
"""The ids of trace and span."""


@dataclass(frozen=True, slots=True)
class UnfinishedSpan:
    """A span that runs, as far as is known; times are nanoseconds."""

    span: StoredSpan
    """It ends where it was when its sender last told of it."""
    silent_ns: int
    """How long ago that was."""


@dataclass(frozen=True, slots=True)
class _Notice:
    span: StoredSpan
    heard: float = 0.0


class Unfinished:
    """The spans that still run; its methods may be called from any thread.

    Attributes:
        dropped: How many went to make room for others.
    """

    def __init__(
        self, arrived: Callable[[Collection[SpanKey]], set[SpanKey]], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with none.

        Args:
            arrived: Tells which of some spans have come; may block.
            now: The time in seconds.
        """
        self.dropped = 0
        self._arrived, self._now = arrived, now
        # Guards what follows; is not held while it is asked what has arrived.
        self._lock = threading.Lock()
        self._notices: dict[SpanKey, _Notice] = {}  # the one that was heard last is the last
        self._bytes = 0
        self._settled = now()

    def take(self, body: bytes) -> tuple[bytes, Counter[str]]:
        """Take the notices out of an encoded `ExportLogsServiceRequest`.

        Returns:
            The request without them, and how many notices were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message; none of its notices is taken.
        """
        refused = Counter[str]()
        if _MARK not in body:
            return body, refused
        notices: list[StoredSpan] = []
        others: list[Group] = []
        for group in split(body):
            records: list[bytes] = []
            others.append(Group(group.resource, group.scope, records))
            for encoded in group.records:
                record = parse_log(encoded) if _MARK in encoded else None
                if record is None or record.event_name != _RUNNING:
                    records.append(encoded)
                elif not is_id(record.trace_id, _TRACE_ID_BYTES) or not is_id(record.span_id, _SPAN_ID_BYTES):
                    refused[INVALID_IDS] += 1
                elif len(encoded) + len(group.resource) + len(group.scope) > MAX_NOTICE_BYTES:
                    refused[TOO_LARGE] += 1
                elif len(notices) == MAX_UNFINISHED:
                    refused[TOO_MANY] += 1
                else:
                    notices.append(_span(record, group.resource, group.scope))
        self._add(notices)
        return join(group for group in others if group.records), refused

    def settle(self) -> None:
        """Forget those that have come, unless it was done a moment ago: for whoever brings spans."""
        with self._lock:
            now = self._now()
            if not self._notices or now - self._settled < SETTLE_EVERY_S:
                return
            self._settled = now
        with suppress(sqlite3.Error):  # the next time will do
            self.spans()

    def spans(self, trace_id: bytes | None = None) -> list[UnfinishedSpan]:
        """Those that have not come, of one trace or of all, by their start.

        Raises:
            sqlite3.Error: It is not known which have come.
        """
        with self._lock:
            long_ago = self._now() - FORGET_AFTER_S
            self._forget([key for key, notice in self._notices.items() if notice.heard < long_ago])
            asked = [key for key in self._notices if trace_id is None or key[0] == trace_id]
        arrived = self._arrived(asked) if asked else set[SpanKey]()
        with self._lock:
            self._forget(arrived)
            now = self._now()
            found = [
                UnfinishedSpan(notice.span, max(0, round((now - notice.heard) * 1e9)))
                for key in asked
                if (notice := self._notices.get(key)) is not None
            ]
        return sorted(found, key=lambda one: (one.span.start_ns, one.span.span_id))

    def _add(self, spans: Iterable[StoredSpan]) -> None:
        with self._lock:
            for span in spans:
                key = span.trace_id, span.span_id
                self._forget([key])
                self._notices[key] = _Notice(span, self._now())
                self._bytes += span.size
                while len(self._notices) > MAX_UNFINISHED or self._bytes > MAX_UNFINISHED_BYTES:
                    self._forget([next(iter(self._notices))])
                    self.dropped += 1

    def _forget(self, keys: Iterable[SpanKey]) -> None:
        for key in keys:
            notice = self._notices.pop(key, None)
            if notice is not None:
                self._bytes -= notice.span.size


def which_arrived(connection: sqlite3.Connection, keys: Collection[SpanKey]) -> set[SpanKey]:
    """Those of some spans that are in the file."""
    held: dict[bytes, Held] = {}
    for some in in_batches(list({trace_id for trace_id, _ in keys})):
        marks = ", ".join("?" * len(some))
        for trace_id, part, share in connection.execute(
            "SELECT t.trace_id, s.part, s.spans FROM traces t JOIN shares s ON s.trace = t.number"
            f" WHERE t.trace_id IN ({marks})",
            some,
        ):
            held.setdefault(trace_id, Held()).add(part, share)
    return {(trace_id, span_id) for trace_id, span_id in keys if trace_id in held and span_id in held[trace_id]}


def _span(record: WireLog, resource: bytes, scope: bytes) -> StoredSpan:
    InstrumentationScope.FromString(scope)
    own: dict[str, str] = {}
    attributes = []
    for attribute in map(KeyValue.FromString, record.attributes):
        if attribute.key in (_NAME, _KIND, _PARENT):
            own[attribute.key] = attribute.value.string_value
        else:
            attributes.append(attribute)
    start_ns = min(record.time_unix_nano, _MAX_NS)
    name, kind = own.get(_NAME, ""), _KIND_NUMBERS.get(own.get(_KIND, ""), 0)
    parent_id = _parent_id(own.get(_PARENT, ""))
    span = Span(
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=parent_id,
        name=name,
        kind=kind,  # type: ignore[arg-type]  # the stubs want a member of the enumeration
        start_time_unix_nano=start_ns,
        attributes=attributes,
    )
    return StoredSpan(
        record.trace_id,
        record.span_id,
        parent_id,
        service_name(Resource.FromString(resource)),
        name[:MAX_NAME],
        kind,
        error=False,
        start_ns=start_ns,
        end_ns=max(start_ns, min(record.observed_time_unix_nano, _MAX_NS)),
        span=span.SerializeToString(),
        resource=resource,
        scope=scope,
    )


def _parent_id(text: str) -> bytes:
    try:
        parent_id = bytes.fromhex(text)
    except ValueError:
        return b""
    return parent_id if is_id(parent_id, _SPAN_ID_BYTES) else b""
