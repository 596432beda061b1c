"""Spans that arrive, and what the file knows of their traces.

The spans of a trace mostly come within seconds, in a request of each of its services. What was read or written for the
one request is remembered for the next, since to read it again takes a tenth of the time of storing.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from observability.viewer.store.calls import Operation
from observability.viewer.store.fields import ERROR
from observability.viewer.store.shares import Held
from observability.viewer.store.wire import WireSpan

MAX_REMEMBERED_SPANS = 8_192  # they should not crowd the cache of the processor
_VARIABLES = 500  # of one statement, which SQLite bounds

Item = TypeVar("Item")


@dataclass(slots=True)
class ArrivedSpan:
    """A span of a request; `group` is the number of its resource and scope there."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    operation: Operation
    status: int
    start_ns: int
    end_ns: int
    duration_ns: int
    group: int
    encoded: bytes
    span: WireSpan
    position: int = 0  # among those that are kept
    operation_number: int = 0

    @property
    def error(self) -> bool:
        """Whether it failed."""
        return self.status == ERROR


@dataclass(slots=True)
class ArrivingTrace:
    """A trace that spans have come for: what is known of it, those that are held, and those that are kept now."""

    trace_id: bytes
    number: int  # 0 until it has one
    size: int
    spans: int
    errors: int
    start_ns: int | None
    end_ns: int | None
    known_start_ns: int | None
    held: Held = field(default_factory=Held)
    kept: dict[bytes, ArrivedSpan] = field(default_factory=dict)  # by their ids


class ArrivingTraces:
    """What the file has of traces; is used within the transactions of one connection, by one thread at a time.

    Remembers the traces that spans came for last, of at most `MAX_REMEMBERED_SPANS` spans together.
    """

    def __init__(self) -> None:
        self._traces: OrderedDict[bytes, ArrivingTrace] = OrderedDict()
        self._spans = 0
        self._lowest_number = 0  # none that is remembered has a lower one
        self._version = 0

    def of(self, connection: sqlite3.Connection, spans: Iterable[ArrivedSpan]) -> dict[bytes, ArrivingTrace]:
        """The traces of spans by their ids, with none kept; what is done to them must be told to `wrote`."""
        # Another process may have written too.
        ((version,),) = connection.execute("PRAGMA data_version").fetchall()
        if version != self._version:
            self.forget()
            self._version = version
        remembered = self._traces.get
        traces: dict[bytes, ArrivingTrace] = {}
        unknown = []
        for trace_id in dict.fromkeys([span.trace_id for span in spans]):
            trace = remembered(trace_id)
            if trace is None:
                unknown.append(trace_id)
                trace = ArrivingTrace(trace_id, 0, 0, 0, 0, None, None, None)
            trace.known_start_ns = trace.start_ns
            traces[trace_id] = trace
        _read(connection, unknown, traces)
        return traces

    def wrote(self, part: int, shares: Iterable[tuple[ArrivingTrace, bytes]]) -> None:
        """The spans that traces kept are in the file, in this part, with these shares."""
        traces = self._traces
        for trace, share in shares:
            if trace.trace_id in traces:
                self._spans += len(trace.kept)
                traces.move_to_end(trace.trace_id)
            else:
                self._spans += trace.spans
                self._lowest_number = min(self._lowest_number, trace.number) if traces else trace.number
                traces[trace.trace_id] = trace
            trace.held.add(part, share)
            trace.kept = {}
        while self._spans > MAX_REMEMBERED_SPANS:
            _, oldest = traces.popitem(last=False)
            self._spans -= oldest.spans

    def changed(self, trace_ids: Iterable[bytes]) -> None:
        """Somebody else has changed these traces in the file."""
        for trace_id in trace_ids:
            trace = self._traces.pop(trace_id, None)
            if trace is not None:
                self._spans -= trace.spans

    def dropped(self, last_number: int) -> None:
        """Those up to this number are not in the file any more."""
        if last_number >= self._lowest_number:
            self.changed([trace_id for trace_id, trace in self._traces.items() if trace.number <= last_number])
            self._lowest_number = last_number + 1

    def forget(self) -> None:
        """Remember nothing: what was to be in the file may not be there."""
        self._traces.clear()
        self._spans = 0


def in_batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut a list for statements with as many variables."""
    for start in range(0, len(items), _VARIABLES):
        yield items[start : start + _VARIABLES]


def _read(connection: sqlite3.Connection, trace_ids: Sequence[bytes], traces: dict[bytes, ArrivingTrace]) -> None:
    by_number: dict[int, ArrivingTrace] = {}
    for some in in_batches(trace_ids):
        marks = ", ".join("?" * len(some))
        for number, trace_id, *known in connection.execute(
            f"SELECT number, trace_id, bytes, spans, errors, start_ns, end_ns FROM traces WHERE trace_id IN ({marks})",
            some,
        ):
            trace = by_number[number] = traces[trace_id]
            trace.number = number
            trace.size, trace.spans, trace.errors, trace.start_ns, trace.end_ns = known
            trace.known_start_ns = trace.start_ns
    for numbers in in_batches(list(by_number)):
        marks = ", ".join("?" * len(numbers))
        for number, part, share in connection.execute(
            f"SELECT trace, part, spans FROM shares WHERE trace IN ({marks})",
            numbers,
        ):
            by_number[number].held.add(part, share)
