"""From OTLP messages to the store; knows no transport."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from observability.viewer.store import Store, StoredLog, StoredSpan

_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_MAX_NS = 2**63 - 1


def ingest_traces(body: bytes, store: Store) -> bytes:
    """Keep the spans of an encoded `ExportTraceServiceRequest`; durable when it returns.

    Returns:
        The encoded response, with the number of refused spans and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
    """
    request = ExportTraceServiceRequest.FromString(body)
    spans: list[StoredSpan] = []
    invalid = 0
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource.SerializeToString()
        service = _service(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.SerializeToString()
            for span in scope_spans.spans:
                if not _is_id(span.trace_id, _TRACE_ID_BYTES) or not _is_id(span.span_id, _SPAN_ID_BYTES):
                    invalid += 1
                    continue
                spans.append(
                    StoredSpan(
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        service,
                        span.name,
                        span.kind,
                        span.status.code == Status.STATUS_CODE_ERROR,
                        min(span.start_time_unix_nano, _MAX_NS),
                        min(span.end_time_unix_nano, _MAX_NS),
                        span.SerializeToString(),
                        resource,
                        scope,
                    )
                )
    full = store.add_spans(spans)
    response = ExportTraceServiceResponse()
    if invalid or full:
        response.partial_success.rejected_spans = invalid + full
        reasons = [f"{invalid} with invalid ids"] * bool(invalid) + [f"{full} beyond a trace's limit"] * bool(full)
        response.partial_success.error_message = ", ".join(reasons)
    encoded: bytes = response.SerializeToString()
    return encoded


def ingest_logs(body: bytes, store: Store) -> bytes:
    """Keep the log records of an encoded `ExportLogsServiceRequest` that belong to a trace.

    Returns:
        The encoded response.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
    """
    request = ExportLogsServiceRequest.FromString(body)
    store.add_logs(
        StoredLog(
            record.trace_id,
            record.span_id,
            min(record.time_unix_nano or record.observed_time_unix_nano, _MAX_NS),
            _service(resource_logs.resource),
            record.SerializeToString(),
        )
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
        if _is_id(record.trace_id, _TRACE_ID_BYTES)
    )
    encoded: bytes = ExportLogsServiceResponse().SerializeToString()
    return encoded


def ingest_metrics(body: bytes, _store: Store) -> bytes:
    """Accept an encoded `ExportMetricsServiceRequest`; metrics are not kept.

    Returns:
        The encoded response.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
    """
    ExportMetricsServiceRequest.FromString(body)
    encoded: bytes = ExportMetricsServiceResponse().SerializeToString()
    return encoded


def _service(resource: Resource) -> str:
    for attribute in resource.attributes:
        if attribute.key == "service.name" and attribute.value.string_value:
            name: str = attribute.value.string_value
            return name
    return "unknown_service"


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)
