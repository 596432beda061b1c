"""From OTLP messages to the store; knows no transport."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from observability.viewer.fields import service_name
from observability.viewer.store import Store
from observability.viewer.stored import StoredLog, StoredSpan

MAX_RECORD_BYTES = 1024 * 1024
# A resource is stored with each of its spans, so what a request takes in the file can be far more than its body.
MAX_STORED_BYTES = 64 * 1024 * 1024

_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_MAX_NS = 2**63 - 1
_MAX_NAME = 256  # characters of what is searched for; the message itself is kept whole
_FULL = "of a trace that is full"


class _Refusals:
    """Which records of one request cannot be kept, and why."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: Counter[str] = Counter()
        self._stored = 0

    def count(self, number: int, reason: str) -> None:
        self.total += number
        self._counts[reason] += number

    def admit(self, size: int) -> bool:
        """Whether a record of so many bytes in the file may be kept."""
        if size > MAX_RECORD_BYTES:
            self.count(1, f"larger than {MAX_RECORD_BYTES} bytes with their resource")
        elif self._stored + size > MAX_STORED_BYTES:
            self.count(1, f"beyond the {MAX_STORED_BYTES} bytes that one request may take")
        else:
            self._stored += size
            return True
        return False

    def __str__(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self._counts.items() if count)


def ingest_traces(body: bytes, store: Store) -> bytes:
    """Keep the spans of an encoded `ExportTraceServiceRequest`; stored when it returns.

    Returns:
        The encoded response, with the number of refused spans and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
        sqlite3.Error: The store failed; nothing of the request is kept.
    """
    request = ExportTraceServiceRequest.FromString(body)
    refusals = _Refusals()
    refusals.count(store.add_spans(_spans(request, refusals)), _FULL)
    response = ExportTraceServiceResponse()
    if refusals.total:
        response.partial_success.rejected_spans = refusals.total
        response.partial_success.error_message = str(refusals)
    encoded: bytes = response.SerializeToString()
    return encoded


def ingest_logs(body: bytes, store: Store) -> bytes:
    """Keep the log records of an encoded `ExportLogsServiceRequest`; stored when it returns.

    Returns:
        The encoded response, with the number of refused records and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
        sqlite3.Error: The store failed; nothing of the request is kept.
    """
    request = ExportLogsServiceRequest.FromString(body)
    refusals = _Refusals()
    refusals.count(store.add_logs(_logs(request, refusals)), _FULL)
    response = ExportLogsServiceResponse()
    if refusals.total:
        response.partial_success.rejected_log_records = refusals.total
        response.partial_success.error_message = str(refusals)
    encoded: bytes = response.SerializeToString()
    return encoded


def ingest_metrics(body: bytes, store: Store) -> bytes:
    """Keep the points of an encoded `ExportMetricsServiceRequest`; stored when it returns.

    Returns:
        The encoded response, with the number of refused points and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
        sqlite3.Error: The store failed; nothing of the request is kept.
    """
    refused = store.add_metrics(ExportMetricsServiceRequest.FromString(body))
    response = ExportMetricsServiceResponse()
    if refused:
        response.partial_success.rejected_data_points = refused
        response.partial_success.error_message = f"{refused} larger than a series may be"
    encoded: bytes = response.SerializeToString()
    return encoded


def _spans(request: ExportTraceServiceRequest, refusals: _Refusals) -> Iterator[StoredSpan]:
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource.SerializeToString()
        service = service_name(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.SerializeToString()
            for span in scope_spans.spans:
                if not _is_id(span.trace_id, _TRACE_ID_BYTES) or not _is_id(span.span_id, _SPAN_ID_BYTES):
                    refusals.count(1, "with invalid ids")
                    continue
                stored = StoredSpan(
                    span.trace_id,
                    span.span_id,
                    span.parent_span_id if _is_id(span.parent_span_id, _SPAN_ID_BYTES) else b"",
                    service,
                    span.name[:_MAX_NAME],
                    span.kind,
                    span.status.code == Status.STATUS_CODE_ERROR,
                    min(span.start_time_unix_nano, _MAX_NS),
                    min(span.end_time_unix_nano, _MAX_NS),
                    span.SerializeToString(),
                    resource,
                    scope,
                )
                if refusals.admit(stored.size):
                    yield stored


def _logs(request: ExportLogsServiceRequest, refusals: _Refusals) -> Iterator[StoredLog]:
    for resource_logs in request.resource_logs:
        service = service_name(resource_logs.resource)
        resource = resource_logs.resource.SerializeToString()
        for scope_logs in resource_logs.scope_logs:
            scope = scope_logs.scope.SerializeToString()
            for record in scope_logs.log_records:
                stored = StoredLog(
                    record.trace_id if _is_id(record.trace_id, _TRACE_ID_BYTES) else b"",
                    record.span_id if _is_id(record.span_id, _SPAN_ID_BYTES) else b"",
                    min(record.time_unix_nano or record.observed_time_unix_nano, _MAX_NS),
                    service,
                    record.SerializeToString(),
                    resource,
                    scope,
                )
                if refusals.admit(len(stored.record)):
                    yield stored


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)
