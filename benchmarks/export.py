"""`python -m benchmarks.export`: what a span and a log record cost, from their start until they were sent.

The SDK's batch processors with the kit's scrubbing and the official exporters take turns with the fast path, in one
process, against one receiver in another. Counted is the CPU time of this process, and of it what the thread spends that
would serve requests. Only the ratios mean something on another machine.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from rich.console import Console
from rich.table import Table

from observability.export import ScrubbingLogExporter, ScrubbingSpanExporter
from observability.fastpath.destination import Signal
from observability.fastpath.environment import sender_from_environment
from observability.fastpath.processors import EncodingLogProcessor, EncodingSpanProcessor
from observability.providers import Telemetry

ROUNDS, ITEMS = 40, 500

Work = Callable[[], None]


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _GrpcReceiver(grpc.GenericRpcHandler):
    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


class _Dropped(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        pass


class _DroppedLogs(LogRecordProcessor):
    def on_emit(self, log_record: object) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        return True


def serve() -> None:
    """Serve on two free ports, which are printed, until this process is killed."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    rpc = grpc.server(ThreadPoolExecutor(2), handlers=[_GrpcReceiver()])
    print(http.server_port, rpc.add_insecure_port("127.0.0.1:0"), flush=True)
    rpc.start()
    http.serve_forever()


@contextmanager
def _receivers() -> Iterator[tuple[str, str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.export", "serve"], stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        http, rpc = one.stdout.readline().split()
        try:
            yield f"http://127.0.0.1:{http}", f"http://127.0.0.1:{rpc}"
        finally:
            one.kill()


def _spans(processor: SpanProcessor) -> tuple[Work, Work]:
    """Spans as the server span of a request has them; its path and the caller's port are different each time."""
    tracer = Telemetry.build("orders", span_processors=[processor]).tracer_provider.get_tracer(
        "opentelemetry.instrumentation.fastapi", "0.66b1", "https://opentelemetry.io/schemas/1.11.0"
    )
    number = 0

    def work() -> None:
        nonlocal number
        for _ in range(ITEMS):
            number += 1
            span = tracer.start_span(
                "GET /orders/{order_id}",
                kind=SpanKind.SERVER,
                attributes={
                    "url.scheme": "http",
                    "server.address": "127.0.0.1",
                    "server.port": 8000,
                    "network.protocol.version": "1.1",
                    "http.request.method": "GET",
                    "url.path": f"/orders/{number}",
                    "client.address": "127.0.0.1",
                    "client.port": 30_000 + number % 30_000,
                    "user_agent.original": "python-httpx/0.28.1",
                },
            )
            span.set_attribute("http.route", "/orders/{order_id}")
            span.set_attribute("http.response.status_code", 200)
            span.end()

    def flush() -> None:
        assert processor.force_flush()

    return work, flush


def _logs(processor: LogRecordProcessor) -> tuple[Work, Work]:
    """Records as the line of a request has them."""
    logger = Telemetry.build("orders", log_processors=[processor]).logger_provider.get_logger("observability.requests")
    number = 0

    def work() -> None:
        nonlocal number
        for _ in range(ITEMS):
            number += 1
            logger.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    severity_text="INFO",
                    severity_number=SeverityNumber.INFO,
                    body=f"GET /orders/{number} -> 200 in {number % 97} ms",
                    attributes={
                        "http.request.method": "GET",
                        "url.path": f"/orders/{number}",
                        "http.route": "/orders/{order_id}",
                        "http.response.status_code": 200,
                        "http.server.request.duration": number / 1000,
                    },
                )
            )

    def flush() -> None:
        assert processor.force_flush()

    return work, flush


def _span_ways(http: str, rpc: str) -> dict[str, tuple[Work, Work]]:
    sender = sender_from_environment(Signal.TRACES, NoOpMeterProvider(), close_timeout_s=5)
    assert sender is not None
    return {
        "made and dropped": _spans(_Dropped()),
        "SDK, HTTP": _spans(BatchSpanProcessor(ScrubbingSpanExporter(OTLPSpanExporter(f"{http}/v1/traces")))),
        "SDK, gRPC": _spans(BatchSpanProcessor(ScrubbingSpanExporter(GrpcSpanExporter(rpc, insecure=True)))),
        "fast path": _spans(EncodingSpanProcessor(sender)),
    }


def _log_ways(http: str, rpc: str) -> dict[str, tuple[Work, Work]]:
    sender = sender_from_environment(Signal.LOGS, NoOpMeterProvider(), close_timeout_s=5)
    assert sender is not None
    return {
        "made and dropped": _logs(_DroppedLogs()),
        "SDK, HTTP": _logs(BatchLogRecordProcessor(ScrubbingLogExporter(OTLPLogExporter(f"{http}/v1/logs")))),
        "SDK, gRPC": _logs(BatchLogRecordProcessor(ScrubbingLogExporter(GrpcLogExporter(rpc, insecure=True)))),
        "fast path": _logs(EncodingLogProcessor(sender)),
    }


def _measure(ways: dict[str, tuple[Work, Work]]) -> dict[str, tuple[list[float], list[float]]]:
    """Each way's microseconds of CPU an item, one for each round: of all threads, and of the one that makes it."""
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for number in range(-2, ROUNDS):
        for name in sorted(ways, key=lambda one: hash((one, number))):
            work, flush = ways[name]
            began, began_here = time.process_time(), time.thread_time()
            work()
            here = time.thread_time() - began_here
            flush()
            if number >= 0:
                figures[name][0].append((time.process_time() - began) / ITEMS * 1e6)
                figures[name][1].append(here / ITEMS * 1e6)
    return figures


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Print a table of spans and one of log records: medians, with the quartiles."""
    logging.disable(logging.CRITICAL)
    console = Console(highlight=False, soft_wrap=True)
    with _receivers() as (http, rpc):
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = http
        os.environ["OTEL_BSP_SCHEDULE_DELAY"] = os.environ["OTEL_BLRP_SCHEDULE_DELAY"] = "60000"
        for title, ways in (("spans", _span_ways(http, rpc)), ("log records", _log_ways(http, rpc))):
            table = Table(f"{title}, µs of CPU each", "all threads", "whose request it is", "export costs")
            figures = _measure(ways)
            bare = statistics.median(figures["made and dropped"][0])
            for name, (everywhere, here) in figures.items():
                table.add_row(name, _spread(everywhere), _spread(here), f"{statistics.median(everywhere) - bare:.1f}")
            console.print(table)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
