"""Applications that are asked over ASGI through contrib's middleware and through the fast path, and all they tell.

Ids count up in each run, so that trees of spans and exemplars compare as they are.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.fastpath.server import ServerSpan
from observability.inbound import InboundContext
from observability.instrument import _server_span_middleware, observe
from observability.providers import Telemetry

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00".encode()


class _Ids(IdGenerator):
    def __init__(self) -> None:
        self._trace_ids, self._span_ids = itertools.count(1), itertools.count(1)

    def generate_trace_id(self) -> int:
        return next(self._trace_ids)

    def generate_span_id(self) -> int:
        return next(self._span_ids)


@dataclass
class Request:
    """One request as a server would hand it on."""

    path: str = "/orders/17"
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"orders:8000"), (b"user-agent", b"test/1.0"))
    query: bytes = b""
    body: bytes = b""
    scope: dict[str, Any] = field(default_factory=dict)
    hangs_up: bool = False
    cancelled: bool = False
    """Whether it is given up when the application waits for more of it, and nothing more comes."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """What is done before that."""
    breaks_off: bool = False

    def with_headers(self, *headers: tuple[bytes, bytes]) -> Request:
        return Request(**{**vars(self), "headers": (*self.headers, *headers)})

    async def to(self, app: ASGIApp) -> list[object]:
        """Send it, and give what came back."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 43210),
            "scheme": "http",
            "method": self.method,
            "root_path": "",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "headers": list(self.headers),
            "state": {},
            **self.scope,
        }
        scope = {name: value for name, value in scope.items() if value is not ...}
        told: list[object] = []
        waiting = asyncio.Event()
        incoming: list[Message] = [{"type": "http.request", "body": self.body, "more_body": False}]
        if scope["type"] == "websocket":
            incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
        if self.hangs_up:
            incoming.append({"type": "http.disconnect"})

        async def receive() -> Message:
            if not incoming:
                waiting.set()
                await asyncio.Event().wait()
            return incoming.pop(0)

        async def send(message: Message) -> None:
            if self.breaks_off and message["type"] == "http.response.body":
                raise OSError("the connection is gone")
            told.append({**message, "headers": sorted(map(tuple, message.get("headers", ())))})

        call: Any = app(scope, receive, send)
        task: asyncio.Task[None] = asyncio.create_task(call, context=contextvars.Context())
        if self.cancelled:
            await asyncio.wait_for(waiting.wait(), 5)
            if self.meanwhile is not None:
                await self.meanwhile()
            task.cancel()
        try:
            await asyncio.wait_for(task, 5)
        except asyncio.CancelledError:
            told.append("cancelled")
        except BaseException as error:  # noqa: BLE001 - also what ends a process is compared
            told.append(repr(error))
        return told


@dataclass
class Told:
    """What one run of an application told."""

    answers: list[list[object]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[object, ...]] = field(default_factory=list)
    fast: int = 0
    """How many requests the fast path took."""


class _Lines(logging.Handler):
    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("opentelemetry"):
            return  # of an attribute that it cuts the SDK tells each time it is set
        span = trace.get_current_span().get_span_context()
        error = record.exc_info[0] if record.exc_info else None
        self._told.lines.append((record.name, record.levelname, record.msg, span.trace_id, span.span_id, error))


def shown(span: ReadableSpan) -> dict[str, Any]:
    """All of a span but its times, and of a stack only the last line."""
    assert span.context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    events = []
    for event in span.events:
        attributes = dict(event.attributes or {})
        stack = str(attributes.pop("exception.stacktrace", ""))
        events.append((event.name, attributes, stack.splitlines()[-1:]))
    return {
        "name": span.name,
        "kind": span.kind,
        "ids": (span.context.trace_id, span.context.span_id, int(span.context.trace_flags)),
        "state": span.context.trace_state.to_header(),
        "parent": span.parent and (span.parent.trace_id, span.parent.span_id, span.parent.is_remote),
        "attributes": list((span.attributes or {}).items()),
        "events": events,
        "links": [(link.context.trace_id, link.context.span_id, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "scope": span.instrumentation_scope,
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
    }


def measured(reader: InMemoryMetricReader) -> dict[str, Any]:
    """The HTTP metrics of now, but for what depends on how long something took."""
    data = reader.get_metrics_data()
    told: dict[str, Any] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if not metric.name.startswith("http."):
                    continue
                points = []
                for point in metric.data.data_points:
                    timed = metric.unit in ("s", "ms")
                    points.append(
                        (
                            sorted((point.attributes or {}).items()),
                            getattr(point, "count", None),
                            None if timed else getattr(point, "sum", None),
                            None if timed else getattr(point, "bucket_counts", None),
                            getattr(point, "explicit_bounds", None),
                            getattr(point, "value", None),
                            sorted({exemplar.trace_id or 0 for exemplar in point.exemplars}),
                        )
                    )
                told[metric.name] = (
                    (metric.unit, metric.description, type(metric.data), scope.scope),
                    getattr(metric.data, "aggregation_temporality", None),
                    sorted(points, key=repr),
                )
    return told


class BothWays:
    """The application that is asked, in the one wiring or the other."""

    def __init__(
        self,
        make: Callable[[], FastAPI],
        *,
        inbound_context: InboundContext = "link",
        sampler: Sampler | None = None,
        temporality: dict[type, AggregationTemporality] | None = None,
        around: Callable[[], Any] | None = None,
        leaks: bool = False,
    ) -> None:
        self._make = make
        self._inbound_context = inbound_context
        self._sampler = sampler
        self._temporality = temporality
        self._around = around
        self._leaks = leaks  # whether contrib may keep the size of one answer for the next

    async def told(self, requests: list[Request], *, fast: bool, monkeypatch: pytest.MonkeyPatch) -> Told:
        told = Told()
        restore_background_tasks()
        exporter = InMemorySpanExporter()
        reader = InMemoryMetricReader(preferred_temporality=self._temporality)
        telemetry = Telemetry.build(
            "orders",
            span_processors=[SimpleSpanProcessor(exporter)],
            metric_readers=[reader],
            id_generator=_Ids(),
            sampler=self._sampler,
            fast=fast,
        )
        app = self._make()
        observe(app, telemetry, inbound_context=self._inbound_context)
        started = ServerSpan._start

        def counted(*args: Any) -> Any:
            told.fast += 1
            return started(*args)

        lines = _Lines(told)
        logging.getLogger().addHandler(lines)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(ServerSpan, "_start", counted)
                for request in requests:
                    if not self._leaks and app.middleware_stack is not None:
                        _server_span_middleware(app.middleware_stack).content_length_header = None
                    told.answers.append(await request.to(self._in_context(app)))
                    told.metrics[f"after {len(told.answers)}"] = measured(reader)
        finally:
            logging.getLogger().removeHandler(lines)
            telemetry.close()
        told.spans = [shown(span) for span in exporter.get_finished_spans()]
        return told

    def _in_context(self, app: ASGIApp) -> ASGIApp:
        if self._around is None:
            return app
        around = self._around

        async def within(scope: Scope, receive: Receive, send: Send) -> None:
            with around():
                await app(scope, receive, send)

        return within

    async def agrees(
        self, *requests: Request, monkeypatch: pytest.MonkeyPatch, fast: int | None = None
    ) -> tuple[Told, Told]:
        """Ask both, and give what they told, which is the same; `fast` of the requests took the fast path."""
        official = await self.told(list(requests), fast=False, monkeypatch=monkeypatch)
        quick = await self.told(list(requests), fast=True, monkeypatch=monkeypatch)
        assert quick.answers == official.answers
        assert quick.spans == official.spans
        assert quick.metrics == official.metrics
        assert quick.lines == official.lines
        assert (official.fast, quick.fast) == (0, len(requests) if fast is None else fast)
        return official, quick


PLAIN = Request()


def restore_background_tasks() -> None:
    """Contrib gives background tasks the tracer of the first application of the process, for good."""
    if (original := vars(BackgroundTask).get("_otel_original_call")) is not None:
        BackgroundTask.__call__ = original  # type: ignore[method-assign]
        delattr(BackgroundTask, "_otel_original_call")
