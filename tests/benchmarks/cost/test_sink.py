from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from benchmarks.cost import sink
from benchmarks.cost.sink import Sink

SPANS = ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span()] * 2), ScopeSpans(spans=[Span()])])]
).SerializeToString()
LOGS = ExportLogsServiceRequest(
    resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord()] * 4)])]
).SerializeToString()
METRICS = ExportMetricsServiceRequest(
    resource_metrics=[ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[Metric()] * 5)])]
).SerializeToString()


def test_counts_by_variant() -> None:
    """Each signal is counted for the variant in its path, compressed or not."""
    took = Sink()
    took.take("/contrib/v1/traces", SPANS)
    took.take("/contrib/v1/logs", gzip.compress(LOGS), "gzip")
    took.take("/clearspan/v1/metrics", METRICS)
    took.take("/clearspan/v1/traces", SPANS)
    took.take("/clearspan/v1/traces", SPANS)
    took.take("/v0.5/traces", b"\x92\x90\x91\x92\xc0\xc0")
    expected = {
        "contrib": {"traces": 3, "logs": 4, "bytes": len(SPANS) + len(LOGS)},
        "clearspan": {"metrics": 5, "traces": 6, "bytes": len(METRICS) + 2 * len(SPANS)},
        "ddtrace": {"traces": 2, "bytes": 6},
    }
    assert took.counts() == expected
    assert took.counts() == expected


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bound is not kept, and counted all the same."""
    monkeypatch.setattr(sink, "MAX_KEPT_BYTES", 0)
    took = Sink()
    took.take("/contrib/v1/traces", SPANS)
    assert took._kept == []
    assert took.counts()["contrib"]["traces"] == 3


def test_requests() -> None:
    """Bodies with a length and in chunks arrive, one after the other on one connection."""

    async def exchange() -> bytes:
        server = await asyncio.start_server(Sink().serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"POST /one/v1/traces HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(SPANS), SPANS))
            writer.write(
                b"POST /two/v1/traces HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (3, SPANS[:3], len(SPANS) - 3, SPANS[3:])
            )
            writer.write(b"GET /counts HTTP/1.1\r\n\r\n")
            writer.write_eof()
            answers = await reader.read()
            writer.close()
            return answers

    answers = asyncio.run(exchange())
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert json.loads(answers.rpartition(b"\r\n\r\n")[2]) == {
        "one": {"traces": 3, "bytes": len(SPANS)},
        "two": {"traces": 3, "bytes": len(SPANS)},
    }


def test_end() -> None:
    """What a variant says it has lost is told at the end, by its latest metrics; nothing is taken after it."""

    def metrics(value: int) -> bytes:
        reason = KeyValue(key="error.type", value=AnyValue(string_value="queue_full"))
        points = [NumberDataPoint(as_int=100), NumberDataPoint(as_int=value, attributes=[reason])]
        metric = Metric(name="otel.sdk.processor.span.processed", sum=Sum(data_points=points))
        scopes = [ScopeMetrics(metrics=[metric, Metric(name="other", sum=Sum(data_points=points))])]
        return ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(scope_metrics=scopes)]).SerializeToString()

    async def exchange() -> bytes:
        took = Sink()
        for value in (1, 2):
            took.take("/one/v1/metrics", metrics(value))
        server = await asyncio.start_server(took.serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET /end HTTP/1.1\r\n\r\n")
            writer.write(b"POST /one/v1/traces HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(SPANS), SPANS))
            answers = await reader.read()
            writer.close()
            return answers

    came, lost = json.loads(asyncio.run(exchange()).partition(b"\r\n\r\n")[2])
    assert came["one"]["metrics"] == 4
    assert lost == {"one": {"otel.sdk.processor.span.processed queue_full": 2}}
