"""Traces of Jaeger's query API, as the viewer and Jaeger answer them, for drawing as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from observability.tree import Span


def spans_of(trace: Mapping[str, Any]) -> list[Span]:
    """The spans of a trace of `/api/traces`."""
    spans = []
    for span in trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        parent = _parent(span)
        spans.append(
            Span(
                trace_id=int(span["traceID"], 16),
                span_id=int(span["spanID"], 16),
                parent_id=int(parent, 16) if parent else None,
                service=trace["processes"][span["processID"]]["serviceName"],
                name=span["operationName"],
                kind=str(tags.get("span.kind", "internal")).upper(),
                start=span["startTime"],
                error=str(tags.get("otel.status_description", "")) if tags.get("error") else None,
                attributes=tags,
            )
        )
    return spans


def _parent(span: Mapping[str, Any]) -> str | None:
    """As Jaeger finds it (`ParentSpanID` of its model): a link to the parent stands in the place of the relation."""
    within = [one for one in span["references"] if one["traceID"] == span["traceID"]]
    for kind in ("CHILD_OF", "FOLLOWS_FROM"):
        for one in within:
            if one["refType"] == kind:
                return str(one["spanID"])
    return None
