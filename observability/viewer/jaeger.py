"""Stored traces in the JSON of Jaeger's query API, which Jaeger's own page reads.

Shapes: https://github.com/jaegertracing/jaeger, internal/uimodel. Times and durations are microseconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from observability.viewer.store.fields import KINDS
from observability.viewer.store.stored import StoredLog, StoredSpan

_MAX_DEPTH = 16
_MAX_SAFE_INTEGER = 2**53 - 1  # of JavaScript


def trace_json(spans: Sequence[StoredSpan]) -> dict[str, Any]:
    """One trace; `spans` must not be empty."""
    processes: dict[tuple[str, bytes], str] = {}
    result = []
    for stored in spans:
        process = processes.setdefault((stored.service, stored.resource), f"p{len(processes) + 1}")
        result.append(_span_json(stored, process))
    return {
        "traceID": spans[0].trace_id.hex(),
        "spans": result,
        "processes": {
            name: {
                "serviceName": service,
                "tags": [
                    tag for tag in _tags(Resource.FromString(resource).attributes) if tag["key"] != "service.name"
                ],
            }
            for (service, resource), name in processes.items()
        },
        "warnings": None,
    }


def log_json(stored: StoredLog) -> dict[str, Any]:
    """One log record; Jaeger has none, so the shape is ours. Nanoseconds as text, since JSON numbers lose them."""
    record = LogRecord.FromString(stored.record)
    return {
        "traceID": stored.trace_id.hex(),
        "spanID": stored.span_id.hex(),
        "timeUnixNano": str(stored.time_ns),
        "service": stored.service,
        "severity": record.severity_text,
        "severityNumber": record.severity_number,
        "body": _value(record.body),
        "attributes": _tags(record.attributes),
    }


def span_tags(stored: StoredSpan) -> list[dict[str, Any]]:
    """A span's tags: its attributes, and what Jaeger has no other place for."""
    return _span_tags(Span.FromString(stored.span), InstrumentationScope.FromString(stored.scope))


def _span_json(stored: StoredSpan, process: str) -> dict[str, Any]:
    span = Span.FromString(stored.span)
    trace_id = stored.trace_id.hex()
    references = []
    if stored.parent_id:
        references.append({"refType": "CHILD_OF", "traceID": trace_id, "spanID": stored.parent_id.hex()})
    references += [
        {"refType": "FOLLOWS_FROM", "traceID": link.trace_id.hex(), "spanID": link.span_id.hex()} for link in span.links
    ]
    return {
        "traceID": trace_id,
        "spanID": stored.span_id.hex(),
        "flags": span.flags & 0xFF,
        "operationName": span.name,
        "references": references,
        "startTime": stored.start_ns // 1000,
        "duration": max(0, stored.end_ns - stored.start_ns) // 1000,
        "tags": _span_tags(span, InstrumentationScope.FromString(stored.scope)),
        "logs": [
            {
                "timestamp": event.time_unix_nano // 1000,
                "fields": [_tag("event", "string", event.name), *_tags(event.attributes)],
            }
            for event in span.events
        ],
        "processID": process,
        "warnings": None,
    }


def _span_tags(span: Span, scope: InstrumentationScope) -> list[dict[str, Any]]:
    tags = _tags(span.attributes)
    if scope.name:
        tags.append(_tag("otel.scope.name", "string", scope.name))
    if scope.version:
        tags.append(_tag("otel.scope.version", "string", scope.version))
    if span.kind in KINDS:
        tags.append(_tag("span.kind", "string", KINDS[span.kind]))
    if span.status.code == Status.STATUS_CODE_ERROR:
        tags += [_tag("otel.status_code", "string", "ERROR"), _tag("error", "bool", value=True)]
    elif span.status.code == Status.STATUS_CODE_OK:
        tags.append(_tag("otel.status_code", "string", "OK"))
    if span.status.message:
        tags.append(_tag("otel.status_description", "string", span.status.message))
    return tags


def _tags(attributes: Iterable[KeyValue]) -> list[dict[str, Any]]:
    return [_attribute(attribute.key, attribute.value) for attribute in attributes]


def _attribute(key: str, value: AnyValue) -> dict[str, Any]:
    match value.WhichOneof("value"):
        case "bool_value":
            return _tag(key, "bool", value.bool_value)
        case "int_value":
            exact = -_MAX_SAFE_INTEGER <= value.int_value <= _MAX_SAFE_INTEGER
            return _tag(key, "int64", value.int_value if exact else str(value.int_value))
        case "double_value":
            return _tag(key, "float64", _value(value))
        case "bytes_value":
            return _tag(key, "binary", base64.b64encode(value.bytes_value).decode())
        case "array_value" | "kvlist_value":
            return _tag(key, "string", json.dumps(_value(value), ensure_ascii=False))
    return _tag(key, "string", value.string_value)


def _tag(key: str, type: str, value: object) -> dict[str, Any]:  # noqa: A002 - the member's name in Jaeger's JSON
    return {"key": key, "type": type, "value": value}


def _value(value: AnyValue, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    if depth > _MAX_DEPTH:
        return "…"
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            number = value.double_value
            return number if number - number == 0 else str(number)  # JSON has no infinity and no NaN
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return [_value(item, depth + 1) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _value(item.value, depth + 1) for item in value.kvlist_value.values}
    return value.string_value
