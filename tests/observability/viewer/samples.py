"""Telemetry to send and to store."""

from __future__ import annotations

import json
import random
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from observability.viewer.store import Store

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
START_NS = 1_700_000_000_000_000_000


def text(key: str, value: str) -> KeyValue:
    """An attribute that is text."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def number(key: str, value: int) -> KeyValue:
    """An attribute that is a whole number."""
    return KeyValue(key=key, value=AnyValue(int_value=value))


def trace_id(index: int) -> bytes:
    """A valid id for each index from 1."""
    return index.to_bytes(16)


def span_id(index: int) -> bytes:
    """A valid id for each index from 1."""
    return index.to_bytes(8)


def span(
    trace: int,
    span: int = 1,
    parent: int | None = None,
    *,
    name: str = "GET /",
    kind: Span.SpanKind.ValueType = Span.SPAN_KIND_SERVER,
    start_ns: int = 0,
    end_ns: int = 1000,
    error: bool = False,
    attributes: Sequence[KeyValue] = (),
    links: Sequence[Span.Link] = (),
) -> Span:
    """A span of 1 µs from `START_NS` on."""
    return Span(
        trace_id=trace_id(trace),
        span_id=span_id(span),
        parent_span_id=b"" if parent is None else span_id(parent),
        name=name,
        kind=kind,
        start_time_unix_nano=START_NS + start_ns,
        end_time_unix_nano=START_NS + end_ns,
        status=failed("") if error else None,
        attributes=attributes,
        links=links,
    )


def noise(size: int) -> KeyValue:
    """An attribute of so many bytes that cannot be compressed."""
    return KeyValue(key="noise", value=AnyValue(bytes_value=random.randbytes(size)))  # noqa: S311 - no secret


def add(store: Store, *spans: Span, service: str = "orders") -> int:
    """Store spans in one request; how many were refused."""
    return store.add_spans(request(list(spans), service=service).SerializeToString()).total()


def log(trace: int | None, *, body: str = "", time_ns: int = 0, attributes: Sequence[KeyValue] = ()) -> LogRecord:
    """A log record of a trace, or of none, of `START_NS`."""
    return LogRecord(
        trace_id=b"" if trace is None else trace_id(trace),
        span_id=b"" if trace is None else span_id(1),
        time_unix_nano=START_NS + time_ns,
        body=AnyValue(string_value=body),
        attributes=attributes,
    )


def add_logs(store: Store, *records: LogRecord) -> int:
    """Store log records in one request; how many were refused."""
    return store.add_logs(log_request(*records).SerializeToString()).total()


def nested(trace: int, names: list[str], *, service: str = "orders") -> ExportTraceServiceRequest:
    """One trace: each name a child of the one before, 1 ms shorter on either side, with its depth as an attribute."""
    spans = [
        Span(
            trace_id=trace_id(trace),
            span_id=span_id(depth),
            parent_span_id=span_id(depth - 1) if depth > 1 else b"",
            name=name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=START_NS + depth * 1_000_000,
            end_time_unix_nano=START_NS + 100_000_000 - depth * 1_000_000,
            attributes=[number("depth", depth)],
        )
        for depth, name in enumerate(names, 1)
    ]
    return request(spans, service=service)


def called(
    trace: int, caller: str, callee: str, *, messaging: bool = False, error: str = "", start_ns: int = START_NS
) -> ExportTraceServiceRequest:
    """One call, or one message, from a service to another, of 10 ms; the other one fails if an error is told."""
    kinds = (
        (Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER)
        if messaging
        else (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    )
    message = ExportTraceServiceRequest()
    for number, (service, kind) in enumerate(zip((caller, callee), kinds, strict=True), 1):
        span = Span(
            trace_id=trace_id(trace),
            span_id=span_id(number),
            parent_span_id=span_id(number - 1) if number > 1 else b"",
            name=f"{callee} it",
            kind=kind,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + 10_000_000,
            status=failed(error) if error and service == callee else None,
        )
        message.MergeFrom(request([span], service=service))
    return message


def request(spans: list[Span], *, service: str = "orders") -> ExportTraceServiceRequest:
    """Spans of one service."""
    resource = Resource(attributes=[text("service.name", service)])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
    )


def record(message: str, **fields: Any) -> LogRecord:
    """A log record of the first trace."""
    fields = {"trace_id": trace_id(1), "time_unix_nano": START_NS, "severity_text": "INFO", **fields}
    return LogRecord(body=AnyValue(string_value=message), **fields)


def gauge_request(name: str, value: int) -> ExportMetricsServiceRequest:
    """One measurement of one service."""
    message = ExportMetricsServiceRequest()
    resource_metrics = message.resource_metrics.add()
    resource_metrics.resource.attributes.append(text("service.name", "orders"))
    metric = resource_metrics.scope_metrics.add().metrics.add(name=name, unit="1", description="How long it is.")
    metric.gauge.data_points.add(time_unix_nano=START_NS, as_int=value)
    return message


def log_request(*records: LogRecord) -> ExportLogsServiceRequest:
    """Log records of one service."""
    message = ExportLogsServiceRequest()
    resource_logs = message.resource_logs.add()
    resource_logs.resource.attributes.append(text("service.name", "orders"))
    resource_logs.scope_logs.add().log_records.extend(records)
    return message


def deep(levels: int) -> AnyValue:
    """A list in a list, so many levels deep."""
    value = AnyValue(string_value="bottom")
    for _ in range(levels):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    return value


def failed(message: str) -> Status:
    """The status of a span that failed."""
    return Status(code=Status.STATUS_CODE_ERROR, message=message)


def as_json(message: Message) -> bytes:
    """A message in OTLP's JSON, written without what is tested."""

    def with_hex(value: Any) -> Any:
        if isinstance(value, list):
            return [with_hex(one) for one in value]
        if isinstance(value, dict):
            return {
                name: b64decode(one).hex() if name in ("traceId", "spanId", "parentSpanId") else with_hex(one)
                for name, one in value.items()
            }
        return value

    return json.dumps(with_hex(MessageToDict(message, use_integers_for_enums=True))).encode()


def notice(
    trace: int,
    span: int = 1,
    parent: int | None = None,
    *,
    name: str = "POST /orders",
    kind: str = "server",
    start_ns: int = 0,
    ran_ns: int = 1000,
    attributes: Sequence[KeyValue] = (),
) -> LogRecord:
    """What the kit sends of a span that runs, from `START_NS` on."""
    own = [text("clearspan.span.name", name), text("clearspan.span.kind", kind)]
    if parent is not None:
        own.append(text("clearspan.span.parent_id", span_id(parent).hex()))
    return LogRecord(
        trace_id=trace_id(trace),
        span_id=span_id(span),
        time_unix_nano=START_NS + start_ns,
        observed_time_unix_nano=START_NS + start_ns + ran_ns,
        body=AnyValue(string_value=f"{name} is running"),
        event_name="clearspan.span.running",
        attributes=[*attributes, *own],
    )
