"""The newest errors, in groups of those that have the same cause as far as their spans tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import parse
from observability.viewer.store import Store

MAX_TRACES = 30
MAX_SPANS = 5000
"""How much is looked at for one answer; traces beyond it are left out."""

_MAX_MESSAGE = 300
_ERRORS = parse("error")
# What differs between messages of one cause: numbers, ids, and what was quoted.
_DIFFERENT = re.compile(r"""'[^']*'|"[^"]*"|\b[0-9a-fA-F]{2,}(?:-[0-9a-fA-F]+)+\b|\b[0-9a-fA-F]{8,}\b|\d+(?:\.\d+)*""")


def failures_json(store: Store, start_ns: int, end_ns: int) -> dict[str, Any]:
    """Groups of errors within a time, that with the newest error first.

    Of errors that came from one another only the innermost counts: what failed is there, the others pass it on.
    `traces` is the number of those that were looked at, `complete` whether there are no others.
    """
    found = store.find(_ERRORS, start_ns=start_ns, end_ns=end_ns, limit=MAX_TRACES)
    groups: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    totals = accumulate(summary.spans for summary in found.traces)
    ids = [summary.trace_id for summary, total in zip(found.traces, totals, strict=True) if total <= MAX_SPANS]
    # The newest one at any rate: by itself it is no more than one trace may be.
    ids = ids or [summary.trace_id for summary in found.traces[:1]]
    failures, complete = store.failures(ids)
    for stored in failures:
        kind, message = _cause(Span.FromString(stored.span))
        key = (stored.service, stored.name, kind, _DIFFERENT.sub("…", message))
        group = groups.setdefault(
            key,
            {
                "service": stored.service,
                "operation": stored.name,
                "type": kind,
                "message": message,
                "count": 0,
                "last": 0,
            },
        )
        group["count"] += 1
        if stored.start_ns // 1000 > group["last"]:
            group |= {
                "last": stored.start_ns // 1000,
                "message": message,
                "traceID": stored.trace_id.hex(),
                "spanID": stored.span_id.hex(),
            }
    return {
        "groups": sorted(groups.values(), key=lambda group: -group["last"]),
        "traces": len(ids),
        "complete": complete and found.complete and len(ids) == len(found.traces) < MAX_TRACES,
    }


def _cause(span: Span) -> tuple[str, str]:
    """Type and message of an error, as the conventions have them; empty if they are not told."""
    events = [event for event in span.events if event.name == "exception"]
    exception = _texts(events[-1].attributes) if events else {}
    kind = _texts(span.attributes).get("error.type") or exception.get("exception.type", "")
    message = span.status.message or exception.get("exception.message", "")
    return kind, message[:_MAX_MESSAGE]


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes if one.value.string_value}
