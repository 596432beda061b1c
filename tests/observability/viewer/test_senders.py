"""Real senders: OpenTelemetry's SDKs for Python and JavaScript, and telemetrygen, which has the one for Go."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import format_trace_id

from observability.viewer.body import MAX_REQUESTS
from observability.viewer.receiver import RETRY_AFTER_S
from tests.observability.viewer.process import RunningViewer, running_viewer
from tests.observability.viewer.samples import PROTOBUF
from tests.stack.programs import program

Exporters = tuple[SpanExporter, LogRecordExporter, MetricExporter]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningViewer]:
    """One for all senders."""
    with running_viewer(tmp_path_factory.mktemp("viewer")) as running:
        yield running


def _trace(viewer: RunningViewer, trace_id: str) -> dict[str, dict[str, Any]]:
    """The spans of a trace as Jaeger's API has them, by name."""
    (found,) = httpx.get(f"{viewer.page}/api/traces/{trace_id}").raise_for_status().json()["data"]
    return {span["operationName"]: span for span in found["spans"]}


def _tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def _over_http(viewer: RunningViewer, compression: Compression) -> Exporters:
    url = f"{viewer.otlp}/v1"
    return (
        OTLPSpanExporter(f"{url}/traces", compression=compression),
        OTLPLogExporter(f"{url}/logs", compression=compression),
        OTLPMetricExporter(f"{url}/metrics", compression=compression),
    )


def _over_grpc(viewer: RunningViewer, compression: Any) -> Exporters:
    return (
        GrpcSpanExporter(viewer.grpc, insecure=True, compression=compression),
        GrpcLogExporter(viewer.grpc, insecure=True, compression=compression),
        GrpcMetricExporter(viewer.grpc, insecure=True, compression=compression),
    )


PYTHON = pytest.mark.parametrize(
    ("connect", "compression"),
    [
        (_over_http, Compression.NoCompression),
        (_over_http, Compression.Gzip),
        (_over_grpc, grpc.Compression.NoCompression),
        (_over_grpc, grpc.Compression.Gzip),
    ],
    ids=["http", "http-gzip", "grpc", "grpc-gzip"],
)


@PYTHON
def test_python(viewer: RunningViewer, connect: Callable[[RunningViewer, Any], Exporters], compression: object) -> None:
    """What the SDK for Python sends over either protocol is shown, and taken without a complaint."""
    spans, logs, metrics = connect(viewer, compression)
    tracing, logging, metering = (
        TracerProvider(),
        LoggerProvider(),
        MeterProvider([PeriodicExportingMetricReader(metrics)]),
    )
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    with tracing.get_tracer("sender").start_as_current_span(
        "root", attributes={"whole": 42, "list": ["ä", "b"]}
    ) as root:
        logging.get_logger("sender").emit(body="a line")
    metering.get_meter("sender").create_counter("counted").add(1)
    for provider in (tracing, logging, metering):
        provider.force_flush()
        provider.shutdown()
    trace_id = format_trace_id(root.get_span_context().trace_id)
    found = _trace(viewer, trace_id)
    assert list(found) == ["root"]
    assert _tags(found["root"])["whole"] == 42
    (line,) = httpx.get(f"{viewer.page}/api/traces/{trace_id}/logs").json()["data"]
    assert "a line" in str(line)


@pytest.mark.parametrize("connect", [_over_http, _over_grpc], ids=["http", "grpc"])
def test_python_comes_again(viewer: RunningViewer, connect: Callable[[RunningViewer, Any], Exporters]) -> None:
    """While there is no room the SDK for Python is told so, comes again, and loses nothing."""
    exporter, *_ = connect(viewer, None)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("sender").start_span("root")
    address = viewer.otlp.removeprefix("http://").split(":")
    with ThreadPoolExecutor(1) as thread:
        with ExitStack() as held:
            for _ in range(MAX_REQUESTS):
                _begin_request(held.enter_context(socket.create_connection((address[0], int(address[1])))))
            refused = httpx.post(f"{viewer.otlp}/v1/traces", content=b"", headers=PROTOBUF)
            assert refused.status_code == 503
            ended = thread.submit(span.end)
            # Long enough for a first attempt, and a moment less than what it is told to wait after that.
            with pytest.raises(TimeoutError):
                ended.result(RETRY_AFTER_S / 2)
        ended.result()
    assert list(_trace(viewer, format_trace_id(span.get_span_context().trace_id))) == ["root"]


def _begin_request(sender: socket.socket) -> None:
    sender.sendall(
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
    )
    assert sender.recv(1000).startswith(b"HTTP/1.1 100 ")  # its body is waited for


@pytest.mark.stack
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["http", "proto", "grpc"])
def test_javascript(viewer: RunningViewer, protocol: str, compression: str) -> None:
    """What the SDK for JavaScript sends is shown, whether as JSON, as protobuf or over gRPC."""
    url = viewer.grpc if protocol == "grpc" else f"{viewer.otlp}/v1/traces"
    script = Path(__file__).with_name("sender.mjs")
    trace_id = _output("node", script, program("opentelemetry-js"), protocol, url, compression).strip()
    found = _trace(viewer, trace_id)
    assert set(found) == {"root", "child"}
    tags = _tags(found["root"])
    assert (tags["whole"], tags["half"], tags["span.kind"]) == (42, 0.5, "server")
    assert "ä" in str(tags["list"])
    child = found["child"]
    assert {one["spanID"] for one in child["references"]} == {found["root"]["spanID"]}
    assert _tags(child)["error"] is True
    assert "event" in str(child["logs"])


@pytest.mark.stack
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_go(viewer: RunningViewer, signal: str, protocol: str) -> None:
    """What telemetrygen sends over either protocol is taken, and its traces are shown."""
    service = f"telemetrygen-{protocol}"
    url = viewer.otlp if protocol == "http" else viewer.grpc
    options = ["--otlp-http"] if protocol == "http" else []
    options += ["--otlp-insecure", "--otlp-endpoint", url.removeprefix("http://"), f"--{signal}", "3", "--rate", "0"]
    _output(program("telemetrygen"), signal, *options, "--service", service)
    if signal == "traces":
        found = httpx.get(f"{viewer.page}/api/traces", params={"service": service}).json()["data"]
        assert [{span["operationName"] for span in trace["spans"]} for trace in found] == [
            {"lets-go", "okey-dokey-0"}
        ] * 3


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
