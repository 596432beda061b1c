"""What the pages ask for: the newest traces in a row each, and one trace with its logs.

The rows have a shape of our own, with times in microseconds since 1970; a trace is OTLP JSON, with exact nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.otlp_json import telemetry_json
from observability.viewer.store import StoredLog, StoredSpan, Summary


def summary_json(summary: Summary) -> dict[str, Any]:
    """One row of the list."""
    return {
        "traceID": summary.trace_id.hex(),
        "name": summary.root.name,
        "service": summary.root.service,
        "status": _http_status(summary.root),
        "startTime": summary.start_ns // 1000,
        "durationNano": max(0, summary.end_ns - summary.start_ns),
        "spans": summary.spans,
        "errors": summary.errors,
        "services": [{"name": name, "spans": spans, "errors": errors} for name, spans, errors in summary.services],
    }


def whole_trace_json(spans: Sequence[StoredSpan], logs: Sequence[StoredLog]) -> dict[str, Any]:
    """One trace with its logs as OTLP JSON, which is also what the page makes of a file that it opens."""
    return telemetry_json(spans, logs)


def _http_status(root: StoredSpan) -> int | None:
    for attribute in Span.FromString(root.span).attributes:
        if attribute.key == "http.response.status_code":
            return attribute.value.int_value or None
    return None
