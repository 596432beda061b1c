"""What the pages ask for, in a shape of our own: the newest traces in a row each, and one trace with its logs.

Times are microseconds since 1970 and, where they must be exact, nanoseconds from the trace's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from observability.viewer.jaeger import log_json, trace_json
from observability.viewer.store.stored import StoredLog, StoredSpan, Summary


def summary_json(summary: Summary) -> dict[str, Any]:
    """One row of the list."""
    return {
        "traceID": summary.trace_id.hex(),
        "name": summary.root.name,
        "service": summary.root.service,
        "status": summary.root.http_status,
        "startTime": summary.start_ns // 1000,
        "durationNano": max(0, summary.end_ns - summary.start_ns),
        "spans": summary.spans,
        "errors": summary.errors,
        "services": [{"name": name, "spans": spans, "errors": errors} for name, spans, errors in summary.services],
    }


def whole_trace_json(spans: Sequence[StoredSpan], logs: Sequence[StoredLog]) -> dict[str, Any]:
    """One trace in Jaeger's shape, with exact times and with its logs; `spans` must not be empty."""
    trace = trace_json(spans)
    start = min(span.start_ns for span in spans)
    for shown, stored in zip(trace["spans"], spans, strict=True):
        shown["offsetNano"] = stored.start_ns - start
        shown["durationNano"] = max(0, stored.end_ns - stored.start_ns)
    return {**trace, "logs": [log_json(log) for log in logs]}
