"""OpenTelemetry's own instrumentors with their defaults, all three signals, set up as their documentation says."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.cost import order
from benchmarks.variants.bare import log_to_stdout


def provide() -> None:
    """Make the process's providers, which export to where `OTEL_EXPORTER_OTLP_ENDPOINT` says."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
    logger_provider = LoggerProvider()
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(logger_provider)
    log_to_stdout()
    LoggingInstrumentor().instrument()


def step(index: int) -> Any:  # noqa: ANN401 - a context manager of the API
    """A span of the application's own."""
    return trace.get_tracer("shop").start_as_current_span("price", attributes={"shop.item": index})


def serve(port: int, **options: Any) -> None:  # noqa: ANN401 - the instrumentor's
    """Serve until a signal."""
    provide()
    app = FastAPI()
    order.add_route(app, step)
    FastAPIInstrumentor.instrument_app(app, **options)
    order.serve(app, port)


def create_client() -> httpx.AsyncClient:
    """A client with the instrumentor."""
    provide()
    client = httpx.AsyncClient()
    HTTPXClientInstrumentor.instrument_client(client)
    return client
