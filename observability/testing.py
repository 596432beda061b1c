"""A pytest plugin that shows what a test's services told: spans, logs, metrics, and the trace as a tree of text.

Several services run in one process over ASGI transports, each with its own providers, and all of them export into the
test's one `Recorder`. Ids count up from 1 and the spans' clock ticks a millisecond with each reading, so whole trees
and whole spans can be compared.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan

    from observability.providers import Telemetry

DEFAULT_ATTRIBUTES = ("http.response.status_code", "error.type")


class Recorder:
    """Everything that the services of one test have told so far; made by the `recorder` fixture."""

    def __init__(self) -> None:
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._span_exporter = InMemorySpanExporter()
        self._log_exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
        self._readers: dict[str, InMemoryMetricReader] = {}
        self._trace_ids = itertools.count(1)
        self._span_ids = itertools.count(1)

    def telemetry(self, service_name: str) -> Telemetry:
        """Providers for one service of the test, which record everything, secrets cut as in production.

        Raises:
            ValueError: The test has a service of that name already.
        """
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator

        from observability.export import ScrubbingSpanExporter
        from observability.providers import Telemetry

        recorder = self

        class CountingIds(IdGenerator):
            def generate_trace_id(self) -> int:
                return next(recorder._trace_ids)

            def generate_span_id(self) -> int:
                return next(recorder._span_ids)

        if service_name in self._readers:
            raise ValueError(f"this test has a service named {service_name!r} already")
        reader = self._readers[service_name] = InMemoryMetricReader()
        return Telemetry.build(
            service_name,
            span_processors=[SimpleSpanProcessor(ScrubbingSpanExporter(self._span_exporter))],
            metric_readers=[reader],
            id_generator=CountingIds(),
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends."""
        return list(self._span_exporter.get_finished_spans())

    @property
    def logs(self) -> list[ReadableLogRecord]:
        """The log records, in the order they were written."""
        return list(self._log_exporter.get_finished_logs())

    def metrics(self, service_name: str) -> dict[str, list[Any]]:
        """The data points of a service's metrics by the metric's name, collected now."""
        data = self._readers[service_name].get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def tree(self, *, attributes: Sequence[str] = DEFAULT_ATTRIBUTES, logs: bool = True) -> str:
        """Draw every trace as text; see `observability.tree.render`.

        Args:
            attributes: Names of the attributes to show.
            logs: Whether to draw log records under their spans. Request lines are left out: they tell a duration.
        """
        from opentelemetry.trace import StatusCode

        from observability import tree

        spans = [
            tree.Span(
                trace_id=span.context.trace_id,
                span_id=span.context.span_id,
                parent_id=span.parent.span_id if span.parent else None,
                service=str(span.resource.attributes["service.name"]),
                name=span.name,
                kind=span.kind.name,
                start=span.start_time or 0,
                error=(span.status.description or "") if span.status.status_code is StatusCode.ERROR else None,
                attributes=dict(span.attributes or {}),
                links=[(link.context.trace_id, link.context.span_id) for link in span.links],
            )
            for span in self.spans
            if span.context is not None
        ]
        records = [
            tree.Log(
                trace_id=record.log_record.trace_id or 0,
                span_id=record.log_record.span_id or 0,
                time=record.log_record.timestamp or 0,
                severity=str(record.log_record.severity_text),
                body=str(record.log_record.body),
            )
            for record in self.logs
            if logs and record.instrumentation_scope and record.instrumentation_scope.name != "observability.requests"
        ]
        return tree.render(spans, records, attributes=attributes)

    def clear(self) -> None:
        """Forget the spans and logs so far."""
        self._span_exporter.clear()
        self._log_exporter.clear()

    def _logger_provider(self) -> Any:  # noqa: ANN401 - an SDK class that is imported where it is used
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

        from observability.export import ScrubbingLogExporter

        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(ScrubbingLogExporter(self._log_exporter)))
        return provider


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """What the services of this test tell; nothing of it outlives the test."""
    import opentelemetry.sdk.trace as sdk_trace
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

    from observability.events import telemetry as events

    _forget_background_tasks()  # a test without this fixture may have been the first
    recorder = Recorder()
    # The SDK takes no clock: it reads this name whenever a span starts, ends or has an event.
    ticks = itertools.count(1_700_000_000_000_000_000, 1_000_000)
    monkeypatch.setattr(sdk_trace, "time_ns", lambda: next(ticks))
    monkeypatch.setattr(events, "time_ns", lambda: next(ticks))  # for the start of an event's wait
    # One handler whatever the number of services: a record finds its span, and so its service, by the ids.
    handler = LoggingHandler(logger_provider=recorder._logger_provider())  # noqa: SLF001 - of this module
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    httpx_logger = logging.getLogger("httpx")
    httpx_level = httpx_logger.level
    httpx_logger.setLevel(logging.WARNING)  # as `configure_logging` does
    yield recorder
    root.removeHandler(handler)
    root.setLevel(level)
    httpx_logger.setLevel(httpx_level)
    _forget_background_tasks()


def _forget_background_tasks() -> None:
    """Undo that contrib gives background tasks the tracer of the first application of the process, for good."""
    from starlette.background import BackgroundTask

    if (original := vars(BackgroundTask).get("_otel_original_call")) is not None:
        BackgroundTask.__call__ = original  # type: ignore[method-assign]
        delattr(BackgroundTask, "_otel_original_call")


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Run an application's lifespan around a block; what it raises at start-up is raised here."""
    async with app.router.lifespan_context(app):
        yield


def transport_for(app: FastAPI) -> httpx.AsyncBaseTransport:
    """A transport that calls an application without a network, and gets a 500 where a server would answer one.

    The application runs in an empty context, as behind a socket: what it knows of the caller came in the headers.
    """
    import httpx

    class IsolatedTransport(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            call = super().handle_async_request(request)
            return await asyncio.get_running_loop().create_task(call, context=contextvars.Context())

    return IsolatedTransport(app, raise_app_exceptions=False)


def client_for(app: FastAPI, base_url: str = "http://test") -> httpx.AsyncClient:
    """A client that calls an application through `transport_for`."""
    import httpx

    return httpx.AsyncClient(transport=transport_for(app), base_url=base_url, timeout=10)
