"""From OTLP requests to the store; knows no transport."""

from __future__ import annotations

from collections import Counter

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from observability.viewer.store import Store


def ingest_traces(body: bytes, store: Store) -> bytes:
    """Keep the spans of an encoded `ExportTraceServiceRequest`; stored when it returns.

    Returns:
        The encoded response, with the number of refused spans and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
        sqlite3.Error: The store failed; nothing of the request is kept.
    """
    refused = store.add_spans(body)
    store.unfinished.settle()
    response = ExportTraceServiceResponse()
    if refused:
        response.partial_success.rejected_spans = refused.total()
        response.partial_success.error_message = _told(refused)
    encoded: bytes = response.SerializeToString()
    return encoded


def ingest_logs(body: bytes, store: Store) -> bytes:
    """Keep the log records of an encoded `ExportLogsServiceRequest`; stored when it returns.

    What among them is a notice of a span that runs is no log record, and is kept with those.

    Returns:
        The encoded response, with the number of refused records and why.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message.
        sqlite3.Error: The store failed; nothing of the request is kept.
    """
    records, refused = store.unfinished.take(body)
    if records:
        refused += store.add_logs(records)
    response = ExportLogsServiceResponse()
    if refused:
        response.partial_success.rejected_log_records = refused.total()
        response.partial_success.error_message = _told(refused)
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
    refused = store.add_metrics(body)
    response = ExportMetricsServiceResponse()
    if refused:
        response.partial_success.rejected_data_points = refused.total()
        response.partial_success.error_message = _told(refused)
    encoded: bytes = response.SerializeToString()
    return encoded


def _told(refused: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in refused.items())
