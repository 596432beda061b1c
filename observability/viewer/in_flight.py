"""Requests that have not ended, as the pages show them: those that take longer than usual, and what they wait for.

Durations are nanoseconds, times microseconds since 1970. How long a span has run is told by its sender's clock up to
its last notice, and by the viewer's from there on, so that clocks may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import as_text
from observability.viewer.store import Store
from observability.viewer.store.fields import KINDS, attribute_values
from observability.viewer.store.statistics import MINUTE_NS, quantile_ns
from observability.viewer.store.unfinished import UnfinishedSpan

MAX_REQUESTS = 50
"""How many are told one by one."""

LONG_NS = 10**9
"""What is shorter nobody could look at, whatever is usual."""

SILENT_NS = 30 * 10**9
"""Three notices that did not come."""

_USUAL_NS = 15 * MINUTE_NS
_FEWEST_CALLS = 5
_PEERS = ("clearspan.peer", "server.address")

Operation = tuple[str, str, int]
"""Service, name and kind."""


class Usual:
    """How long operations took in the last minutes; remembered for a while, since to count it takes long."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.monotonic) -> None:
        self._store, self._now = store, now
        self._known: dict[Operation, float] = {}
        self._until = 0.0

    def durations_ns(self) -> Mapping[Operation, float]:
        """The duration that 95 of 100 calls stayed below, of the operations that were called more than a few times."""
        if self._now() >= self._until:
            now_ns = time.time_ns()
            self._known = {
                (one.service, one.operation, one.kind): quantile_ns(one.durations, 0.95)
                for one in self._store.operations_between(now_ns - _USUAL_NS, now_ns)
                if one.calls >= _FEWEST_CALLS
            }
            self._until = self._now() + 10.0
        return self._known


def in_flight_json(found: Sequence[UnfinishedSpan], usual: Usual) -> dict[str, Any]:
    """The requests among unfinished spans, those that take unusually long one by one, the longest first.

    A request is a span whose parent has ended, is not known, or is none.
    """
    by_id = {(one.span.trace_id, one.span.span_id): one for one in found}
    children: dict[tuple[bytes, bytes], list[UnfinishedSpan]] = {}
    tops = []
    for one in found:
        parent = one.span.trace_id, one.span.parent_id
        if parent in by_id:
            children.setdefault(parent, []).append(one)
        else:
            tops.append(one)
    known = usual.durations_ns() if tops else {}
    long = []
    for one in tops:
        usual_ns = known.get((one.span.service, one.span.name, one.span.kind))
        if is_silent(one) or elapsed_ns(one) > max(LONG_NS, usual_ns or 0):
            long.append((one, usual_ns))
    long.sort(key=lambda pair: -elapsed_ns(pair[0]))
    return {
        "inFlight": len(tops),
        "unusual": len(long),
        "requests": [
            {
                "traceID": one.span.trace_id.hex(),
                "service": one.span.service,
                "name": one.span.name,
                "kind": KINDS.get(one.span.kind, ""),
                "startTime": one.span.start_ns // 1000,
                "usualNano": usual_ns,
                "waitsFor": _innermost(one, children),
                **unfinished_json(one),
            }
            for one, usual_ns in long[:MAX_REQUESTS]
        ],
    }


def unfinished_json(one: UnfinishedSpan) -> dict[str, Any]:
    """How long a span has run, or had when it was last told of, and for how long it was not; 0 while it is."""
    return {
        "spanID": one.span.span_id.hex(),
        "elapsedNano": elapsed_ns(one),
        "silentNano": one.silent_ns if is_silent(one) else 0,
    }


def is_silent(one: UnfinishedSpan) -> bool:
    """Whether a span was not told of for so long that its process must be gone."""
    return one.silent_ns >= SILENT_NS


def elapsed_ns(one: UnfinishedSpan) -> int:
    """How long a span has run, as far as is known."""
    told_ns = one.span.end_ns - one.span.start_ns
    return told_ns if is_silent(one) else told_ns + one.silent_ns


def _innermost(
    top: UnfinishedSpan, children: Mapping[tuple[bytes, bytes], Sequence[UnfinishedSpan]]
) -> dict[str, str] | None:
    """What began last in it, and in that, and so on."""
    at = top
    while below := children.get((at.span.trace_id, at.span.span_id)):
        at = below[-1]
    return None if at is top else {"service": at.span.service, "name": at.span.name, "peer": _peer(at)}


def _peer(one: UnfinishedSpan) -> str:
    """Whom a span calls; empty if it tells nothing of that."""
    told = attribute_values(Span.FromString(one.span.span).attributes)
    return as_text(next((told[key] for key in _PEERS if key in told), ""))
