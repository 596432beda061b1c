"""Stored spans and log records as OTLP JSON: what the trace page reads, and what it saves as a file.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids are hexadecimal, whole numbers of 64 bits are text
(so nanoseconds stay exact), members that have no value are left out.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store.stored import Link, LinkEnd, StoredLog, StoredSpan


def telemetry_json(spans: Sequence[StoredSpan], logs: Sequence[StoredLog]) -> dict[str, Any]:
    """Spans and log records in one object: `resourceSpans` as of TracesData, `resourceLogs` as of LogsData."""
    by_resource: dict[bytes, dict[bytes, list[StoredSpan]]] = {}
    for span in spans:
        by_resource.setdefault(span.resource, {}).setdefault(span.scope, []).append(span)
    by_service: dict[str, list[StoredLog]] = {}
    for log in logs:
        by_service.setdefault(log.service, []).append(log)
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(Resource.FromString(resource).attributes)},
                "scopeSpans": [
                    {
                        "scope": _scope(InstrumentationScope.FromString(scope)),
                        "spans": [_span(span) for span in of_scope],
                    }
                    for scope, of_scope in scopes.items()
                ],
            }
            for resource, scopes in by_resource.items()
        ],
        # Of a record's resource the store keeps the service.
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeLogs": [{"logRecords": [_log(log) for log in of_service]}],
            }
            for service, of_service in by_service.items()
        ],
    }


def link_json(link: Link) -> dict[str, Any]:
    """A span of another trace that links to one of this trace; the shape is ours."""
    return {**link_end_json(link.end), "linkedSpanId": link.linked_span_id.hex()}


def link_end_json(end: LinkEnd) -> dict[str, Any]:
    """A span of another trace, with what is known of it; the shape is ours."""
    told: dict[str, Any] = {"traceId": end.trace_id.hex(), "spanId": end.span_id.hex(), "stored": end.stored}
    return told | ({"service": end.operation.service, "name": end.operation.name} if end.operation else {})


def _span(stored: StoredSpan) -> dict[str, Any]:
    span = Span.FromString(stored.span)
    status = {"code": span.status.code, "message": span.status.message}
    return _present(
        {
            "traceId": stored.trace_id.hex(),
            "spanId": stored.span_id.hex(),
            "parentSpanId": stored.parent_id.hex(),
            "traceState": span.trace_state,
            "flags": span.flags,
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": str(span.start_time_unix_nano),
            "endTimeUnixNano": str(span.end_time_unix_nano),
            "attributes": _attributes(span.attributes),
            "droppedAttributesCount": span.dropped_attributes_count,
            "events": [
                _present(
                    {
                        "timeUnixNano": str(event.time_unix_nano),
                        "name": event.name,
                        "attributes": _attributes(event.attributes),
                        "droppedAttributesCount": event.dropped_attributes_count,
                    }
                )
                for event in span.events
            ],
            "droppedEventsCount": span.dropped_events_count,
            "links": [
                _present(
                    {
                        "traceId": link.trace_id.hex(),
                        "spanId": link.span_id.hex(),
                        "traceState": link.trace_state,
                        "flags": link.flags,
                        "attributes": _attributes(link.attributes),
                        "droppedAttributesCount": link.dropped_attributes_count,
                    }
                )
                for link in span.links
            ],
            "droppedLinksCount": span.dropped_links_count,
            "status": _present(status),
        }
    )


def _log(stored: StoredLog) -> dict[str, Any]:
    record = LogRecord.FromString(stored.record)
    return _present(
        {
            "timeUnixNano": str(stored.time_ns),
            "observedTimeUnixNano": str(record.observed_time_unix_nano),
            "severityNumber": record.severity_number,
            "severityText": record.severity_text,
            "eventName": record.event_name,
            "body": _value(record.body),
            "attributes": _attributes(record.attributes),
            "droppedAttributesCount": record.dropped_attributes_count,
            "flags": record.flags,
            "traceId": stored.trace_id.hex(),
            "spanId": stored.span_id.hex(),
        }
    )


def _scope(scope: InstrumentationScope) -> dict[str, Any]:
    return _present({"name": scope.name, "version": scope.version, "attributes": _attributes(scope.attributes)})


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _attributes(attributes: Iterable[KeyValue]) -> list[dict[str, Any]]:
    return [{"key": attribute.key, "value": _value(attribute.value)} for attribute in attributes]


def _value(value: AnyValue) -> dict[str, Any]:
    match value.WhichOneof("value"):
        case "string_value":
            return {"stringValue": value.string_value}
        case "bool_value":
            return {"boolValue": value.bool_value}
        case "int_value":
            return {"intValue": str(value.int_value)}
        case "double_value":
            return {"doubleValue": _double(value.double_value)}
        case "bytes_value":
            return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
        case "array_value":
            return {"arrayValue": {"values": [_value(item) for item in value.array_value.values]}}
        case "kvlist_value":
            return {"kvlistValue": {"values": _attributes(value.kvlist_value.values)}}
    return {}


def _double(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
