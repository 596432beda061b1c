"""The same requests through contrib's middleware alone and through the fast path leave the same telemetry.

Whole applications are asked over ASGI, once with each wiring; spans, metrics, log lines, answers and the context that a
handler hands on are compared. Ids count up in each run, so that trees of spans and exemplars compare as they are.
What differs on purpose stands in `DIFFERENCES`, with a test each.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation import fastapi as contrib_fastapi
from opentelemetry.instrumentation import propagators as response_propagators
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability,
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)
from opentelemetry.instrumentation.propagators import TraceResponsePropagator
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.http import parse_excluded_urls
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Host, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.fastpath.server import ServerSpan
from observability.inbound import InboundContext
from observability.instrument import _server_span_middleware, observe
from observability.providers import Telemetry

pytestmark = pytest.mark.anyio

DIFFERENCES = {
    "size of an answer without Content-Length": (
        "contrib records the size of whichever answer of the process had one last: it keeps it on the middleware. "
        "The fast path records none."
    ),
    "bytes that are no text": (
        "contrib fails the request with 500 and without a span when a query is not UTF-8, or a header neither that nor "
        "escapes. The fast path shows replacement characters in their place, and serves the request."
    ),
    "sizes that cannot be": (
        "contrib raises OverflowError after the answer when a Content-Length exceeds all floats, and warns of a negative "
        "one. The fast path records neither."
    ),
    "exemplars of active requests": (
        "The SDK keeps one by lot, the fast path the last one; only where a sampled caller is believed."
    ),
    "names of headers with capitals": (
        "contrib lowers them again, which ASGI servers have done. The fast path takes them as they are, as the kit does "
        "when it takes a stranger's trace headers away."
    ),
    "no propagators": (
        "With OTEL_PROPAGATORS=none contrib fails every request with 500. The fast path begins a trace with each."
    ),
    "number of dropped attributes": (
        "Where a span may have fewer attributes than it is given, contrib drops each twice, since it sets it twice."
    ),
    "first frame of exception.stacktrace": "It names the layer that recorded the exception, which is another one.",
}
"""What is not the same, what each of the two does, and why."""

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_SAMPLED = f"00-{_TRACE}-{_SPAN}-01".encode()
_UNSAMPLED = f"00-{_TRACE}-{_SPAN}-00".encode()


class _Ids(IdGenerator):
    def __init__(self) -> None:
        self._trace_ids, self._span_ids = itertools.count(1), itertools.count(1)

    def generate_trace_id(self) -> int:
        return next(self._trace_ids)

    def generate_span_id(self) -> int:
        return next(self._span_ids)


class _Stop(BaseException):
    pass


@dataclass
class _Request:
    """One request as a server would hand it on."""

    path: str = "/orders/17"
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"orders:8000"), (b"user-agent", b"test/1.0"))
    query: bytes = b""
    body: bytes = b""
    scope: dict[str, Any] = field(default_factory=dict)
    hangs_up: bool = False
    cancelled: bool = False
    breaks_off: bool = False

    def with_headers(self, *headers: tuple[bytes, bytes]) -> _Request:
        return _Request(**{**vars(self), "headers": (*self.headers, *headers)})

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

        task = asyncio.get_running_loop().create_task(app(scope, receive, send), context=contextvars.Context())
        if self.cancelled:
            await asyncio.sleep(0.02)
            task.cancel()
        try:
            await asyncio.wait_for(task, 5)
        except asyncio.CancelledError:
            told.append("cancelled")
        except BaseException as error:  # noqa: BLE001 - also what ends a process is compared
            told.append(repr(error))
        return told


@dataclass
class _Told:
    """What one run of an application told."""

    answers: list[list[object]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[object, ...]] = field(default_factory=list)
    fast: int = 0
    """How many requests the fast path took."""


class _Lines(logging.Handler):
    def __init__(self, told: _Told) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("opentelemetry"):
            return  # of an attribute that it cuts the SDK tells each time it is set
        span = trace.get_current_span().get_span_context()
        error = record.exc_info[0] if record.exc_info else None
        self._told.lines.append((record.name, record.levelname, record.msg, span.trace_id, span.span_id, error))


def _shown(span: ReadableSpan) -> dict[str, Any]:
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


def _measured(reader: InMemoryMetricReader) -> dict[str, Any]:
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
                            sorted({exemplar.trace_id for exemplar in point.exemplars}),
                        )
                    )
                told[metric.name] = (
                    (metric.unit, metric.description, type(metric.data), scope.scope),
                    getattr(metric.data, "aggregation_temporality", None),
                    sorted(points, key=repr),
                )
    return told


class _Shop:
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

    async def told(self, requests: list[_Request], *, fast: bool, monkeypatch: pytest.MonkeyPatch) -> _Told:
        told = _Told()
        _restore_background_tasks()
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
                    told.metrics[f"after {len(told.answers)}"] = _measured(reader)
        finally:
            logging.getLogger().removeHandler(lines)
            telemetry.close()
        told.spans = [_shown(span) for span in exporter.get_finished_spans()]
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
        self, *requests: _Request, monkeypatch: pytest.MonkeyPatch, fast: int | None = None
    ) -> tuple[_Told, _Told]:
        """Ask both, and give what they told, which is the same; `fast` of the requests took the fast path."""
        official = await self.told(list(requests), fast=False, monkeypatch=monkeypatch)
        quick = await self.told(list(requests), fast=True, monkeypatch=monkeypatch)
        assert quick.answers == official.answers
        assert quick.spans == official.spans
        assert quick.metrics == official.metrics
        assert quick.lines == official.lines
        assert (official.fast, quick.fast) == (0, len(requests) if fast is None else fast)
        return official, quick


@pytest.fixture(autouse=True)
def _info() -> Iterator[None]:
    """Request lines are written, and contrib's patch of background tasks does not outlive a test."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(level)
    _restore_background_tasks()


def _restore_background_tasks() -> None:
    """Contrib gives background tasks the tracer of the first application of the process, for good."""
    if (original := vars(BackgroundTask).get("_otel_original_call")) is not None:
        BackgroundTask.__call__ = original  # type: ignore[method-assign]
        delattr(BackgroundTask, "_otel_original_call")


def _shop() -> FastAPI:
    app = FastAPI()

    @app.api_route("/orders/{order_id}", methods=["GET", "POST"])
    async def order(order_id: str) -> dict[str, str]:
        return {"id": order_id}

    @app.delete("/orders/{order_id}")
    async def delete(order_id: str) -> None:
        raise HTTPException(404, order_id)

    @app.get("/files/{path:path}")
    def file(path: str) -> str:
        return path

    @app.get("/numbers/{number:int}")
    async def number(number: int) -> int:
        return number

    @app.get("/prices/{price:float}/{key:uuid}")
    async def price(price: float, key: str) -> float:
        return price

    @app.get("/status/{code}")
    async def status(code: int) -> Response:
        return Response(status_code=code)

    @app.get("/errors/{code}")
    async def error(code: int) -> Response:
        raise HTTPException(code)

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("no such luck")

    @app.get("/stops")
    async def stops() -> None:
        raise _Stop

    @app.get("/hangs")
    async def hangs(request: Request) -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)

    @app.get("/waits")
    async def waits() -> None:
        await asyncio.Event().wait()

    @app.get("/stream")
    async def stream(fail: bool = False) -> Response:
        async def chunks() -> AsyncIterator[str]:
            with trace.get_tracer("t").start_as_current_span("chunks"):
                yield "a"
                await asyncio.sleep(0)
                if fail:
                    raise ValueError("in the middle")
                yield "b"

        return StreamingResponse(chunks())

    @app.get("/background")
    async def background(fail: bool = False) -> Response:
        def work() -> None:
            logging.getLogger("shop").warning("working")
            if fail:
                raise ValueError("after all")

        return PlainTextResponse("later", background=BackgroundTask(work))

    @app.get("/renames")
    async def renames() -> None:
        span = trace.get_current_span()
        span.update_name("renamed")
        span.set_attribute("http.route", "/mine")
        span.set_attribute("own", 1)
        span.set_status(StatusCode.OK)
        span.add_event("seen")

    @app.get("/calls")
    async def calls(request: Request) -> JSONResponse:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        seen = {name: value for name, value in request.headers.items() if name in ("traceparent", "baggage")}
        return JSONResponse({"sent": carrier, "baggage": dict(baggage.get_all()), "seen": seen})

    @app.get("/slash/")
    async def slash() -> str:
        return "slash"

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    router = APIRouter(prefix="/v1")

    @router.get("/items/{item_id}")
    async def item(item_id: str) -> str:
        return item_id

    @router.post("/items")
    async def create(request: Request) -> int:
        return len(await request.body())

    inner = APIRouter(prefix="/deep")

    @inner.put("/{a}/{b}")
    async def deep(a: str, b: str) -> str:
        return a + b

    router.include_router(inner)
    app.include_router(router)

    inside = FastAPI()

    @inside.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    @inside.get("/fails")
    async def inside_fails() -> None:
        raise KeyError("thing")

    app.mount("/inside", inside)

    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    app.mount("/plain", Starlette(routes=[Route("/home", home)]))
    app.mount("/assets", StaticFiles(directory=Path(__file__).parent))
    app.router.routes.append(Route("/any-method", home, methods=None))
    app.router.routes.append(Mount("/tenants/{tenant}", app=Starlette(routes=[Route("/home", home)])))
    return app


_PLAIN = _Request()

_REQUESTS = {
    "plain": _PLAIN,
    "twice": _PLAIN,
    "post": _Request(method="POST", body=b"12345").with_headers((b"content-length", b"5")),
    "empty-body": _Request(method="POST").with_headers((b"content-length", b"0")),
    "odd-length": _Request(method="POST", body=b"1").with_headers((b"content-length", b"one")),
    **{f"method-{method}": _Request(method=method) for method in ("HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "QUERY")},
    **{f"odd-{method!r}": _Request(method=method) for method in ("get", "BREW", "  GET ", "CONNECT", "PROPFIND")},
    "delete": _Request(method="DELETE"),
    **{
        f"status-{code}": _Request(f"/status/{code}")
        for code in (100, 199, 200, 204, 304, 418, 499, 500, 503, 599, 600)
    },
    **{f"error-{code}": _Request(f"/errors/{code}") for code in (400, 401, 404, 429, 500, 502)},
    "invalid": _Request("/status/none"),
    "fails": _Request("/fails"),
    "stops": _Request("/stops"),
    "stream": _Request("/stream"),
    "stream-fails": _Request("/stream", query=b"fail=true"),
    "background": _Request("/background"),
    "background-fails": _Request("/background", query=b"fail=true"),
    "hangs-up": _Request("/hangs", hangs_up=True),
    "hangs-up-at-once": _Request("/orders/17", hangs_up=True),
    "breaks-off": _Request("/orders/17", breaks_off=True),
    "cancelled": _Request("/waits", cancelled=True),
    "unknown": _Request("/nowhere"),
    "root": _Request("/"),
    "docs": _Request("/openapi.json"),
    "slash": _Request("/slash"),
    "slash-taken": _Request("/orders/17/"),
    "paths": _Request("/files/a/b/c"),
    "no-path": _Request("/files/"),
    "number": _Request("/numbers/12"),
    "no-number": _Request("/numbers/twelve"),
    "float-and-uuid": _Request("/prices/1.5/0af76519-16cd-43dd-8448-eb211c80319c"),
    "line-break": _Request("/orders/17\n"),
    "unicode": _Request("/orders/größe-\U0001f600"),
    "encoded": _Request("/orders/a/b", scope={"raw_path": b"/orders/a%2Fb"}),
    "included": _Request("/v1/items/3"),
    "included-partial": _Request("/v1/items/3", method="DELETE"),
    "included-post": _Request("/v1/items", method="POST", body=b"abc"),
    "included-deep": _Request("/v1/deep/x/y", method="PUT"),
    "mounted": _Request("/inside/things/4"),
    "mounted-fails": _Request("/inside/fails"),
    "mounted-unknown": _Request("/inside/nowhere"),
    "mounted-root": _Request("/inside"),
    "mounted-starlette": _Request("/plain/home"),
    "mounted-parameter": _Request("/tenants/acme/home"),
    "static": _Request("/assets/conftest.py"),
    "static-unknown": _Request("/assets/none.py"),
    "static-head": _Request("/assets/conftest.py", method="HEAD"),
    "any-method": _Request("/any-method", method="DELETE"),
    "renames": _Request("/renames"),
    "secret-query": _Request(query=b"token=secret&page=2&sig=abc"),
    "encoded-query": _Request(query=b"a=%C3%A4&b=%"),
    "no-headers": _Request(headers=()),
    "two-hosts": _PLAIN.with_headers((b"host", b"other")),
    "two-agents": _PLAIN.with_headers((b"user-agent", b"googlebot")),
    "bot": _Request(headers=((b"host", b"o"), (b"user-agent", b"Mozilla/5.0 (compatible; Googlebot/2.1)"))),
    "synthetic": _Request(headers=((b"host", b"o"), (b"user-agent", b"AlwaysOn/1.0"))),
    "empty-agent": _Request(headers=((b"user-agent", b""),)),
    "latin-agent": _Request(headers=((b"user-agent", b"caf\xe9"),)),
    "long-agent": _Request(headers=((b"user-agent", b"x" * 2000),)),
    "utf-8-agent": _Request(headers=((b"user-agent", "größe".encode()),)),
    "http-1.0": _Request(scope={"http_version": "1.0"}),
    "http-2": _Request(scope={"http_version": "2"}),
    "https": _Request(scope={"scheme": "https", "server": ("example.org", 443)}),
    "port-80": _Request(scope={"server": ("example.org", 80)}),
    "ipv6": _Request(scope={"server": ("::1", 8000), "client": ("2001:db8::1", 5)}),
    "socket": _Request(scope={"server": ("/run/orders.sock", None), "client": None}),
    "no-server": _Request(scope={"server": None}),
    "no-client": _Request(scope={"client": ...}),
    "odd-client": _Request(scope={"client": ("", 0)}),
    "root-path": _Request("/api/orders/17", scope={"root_path": "/api"}),
    "root-path-stripped": _Request("/orders/17", scope={"root_path": "/api"}),
    "root-path-alone": _Request("/api", scope={"root_path": "/api"}),
}

_NOT_COVERED = {
    "list-server": _Request(scope={"server": ["127.0.0.1", 8000]}),
    "missing-server": _Request(scope={"server": ...}),
    "missing-scheme": _Request(scope={"scheme": ...}),
    "empty-version": _Request(scope={"http_version": ""}),
    "websocket": _Request("/ws", scope={"type": "websocket", "scheme": "ws"}),
}


@pytest.mark.parametrize("request_", _REQUESTS.values(), ids=_REQUESTS)
async def test_requests(request_: _Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of this kind leaves the same, the first and the second time."""
    await _Shop(_shop).agrees(request_, request_, monkeypatch=monkeypatch)


@pytest.mark.parametrize("request_", _NOT_COVERED.values(), ids=_NOT_COVERED)
async def test_not_covered(request_: _Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not covered is contrib's, and leaves the same."""
    await _Shop(_shop).agrees(request_, monkeypatch=monkeypatch, fast=0)


_CALLERS = {
    "none": (),
    "sampled": ((b"traceparent", _SAMPLED),),
    "unsampled": ((b"traceparent", _UNSAMPLED),),
    "twice": ((b"traceparent", _SAMPLED), (b"traceparent", _UNSAMPLED)),
    "state": ((b"traceparent", _SAMPLED), (b"tracestate", b"a=1,b=2")),
    "states": ((b"traceparent", _SAMPLED), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")),
    "odd-state": ((b"traceparent", _SAMPLED), (b"tracestate", b"=,;" + b"x" * 600)),
    "state-alone": ((b"tracestate", b"a=1"),),
    "baggage": ((b"traceparent", _SAMPLED), (b"baggage", b"user=7,tenant=acme%20co")),
    "baggage-alone": ((b"baggage", b"user=7"),),
    "odd-baggage": ((b"baggage", b"a" * 9000), (b"baggage", b"b=1")),
    **{
        f"odd-{text[:24]!r}": ((b"traceparent", text),)
        for text in (
            b"",
            b"nonsense",
            _SAMPLED + b"-more",
            b" " + _SAMPLED + b"\t",
            _SAMPLED.upper(),
            b"01" + _SAMPLED[2:] + b"-more",
            b"ff" + _SAMPLED[2:],
            f"00-{'0' * 32}-{_SPAN}-01".encode(),
            f"00-{_TRACE}-{'0' * 16}-01".encode(),
            f"00-{_TRACE}-{_SPAN}-03".encode(),
            f"00-{_TRACE}-{_SPAN}-ff".encode(),
            b"00-\xe9",
        )
    },
}


@pytest.mark.parametrize("inbound_context", ["link", "continue", "ignore"])
@pytest.mark.parametrize("headers", _CALLERS.values(), ids=_CALLERS)
async def test_callers(
    headers: tuple[tuple[bytes, bytes], ...], inbound_context: InboundContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a caller says of its trace, the parent, the links and what a handler hands on are the same."""
    request = _Request("/calls").with_headers(*headers)
    await _Shop(_shop, inbound_context=inbound_context).agrees(request, monkeypatch=monkeypatch)


class _Looking(Sampler):
    """A sampler that decides by the name, and tells what it was shown."""

    def __init__(self, seen: list[object]) -> None:
        self._seen = seen

    def should_sample(
        self,
        parent_context: context.Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        self._seen.append((trace_id, name, kind, dict(attributes or {}), links))
        decision = Decision.DROP if "things" in name or "inside" in name else Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, {"sampler.says": name})

    def get_description(self) -> str:
        return "looking"


async def test_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler is shown the same and decides the same."""
    shown: list[list[object]] = []
    for fast in (False, True):
        shown.append([])
        shop = _Shop(_shop, sampler=ParentBased(_Looking(shown[-1])), inbound_context="continue")
        requests = [_Request(), _Request("/inside/things/1"), _PLAIN.with_headers((b"traceparent", _UNSAMPLED))]
        told = await shop.told(requests, fast=fast, monkeypatch=monkeypatch)
        assert len(told.spans) == 1
    assert len(shown[0]) == 2
    assert shown[0] == shown[1]


async def test_unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is sampled there are metrics all the same, without exemplars."""
    shop = _Shop(_shop, sampler=ParentBased(ALWAYS_OFF))
    official, _ = await shop.agrees(_Request(), _Request("/fails"), monkeypatch=monkeypatch)
    assert official.spans == []
    assert len(official.metrics["after 2"]["http.server.request.duration"][2]) == 2


async def test_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics as differences are the same in each interval, also for active requests, which are never differences."""
    delta = AggregationTemporality.DELTA
    shop = _Shop(
        _shop, temporality={Histogram: delta, Counter: delta, UpDownCounter: AggregationTemporality.CUMULATIVE}
    )
    requests = [_Request(), _Request("/nowhere"), _Request(), _Request()]
    official, _ = await shop.agrees(*requests, monkeypatch=monkeypatch)
    assert len(official.metrics["after 3"]["http.server.request.duration"][2]) == 1


async def test_active_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that still run are counted, by their sanitized method and scheme."""
    counted = []
    for fast in (False, True):
        reader = InMemoryMetricReader()
        telemetry = Telemetry.build("orders", metric_readers=[reader], fast=fast)
        app = _shop()
        observe(app, telemetry)
        running = [
            asyncio.create_task(_Request("/waits", method=method, cancelled=True).to(app)) for method in ("GET", "GET")
        ]
        await asyncio.sleep(0.01)
        counted.append(_measured(reader)["http.server.active_requests"])
        await asyncio.gather(*running)
        counted.append(_measured(reader)["http.server.active_requests"])
        telemetry.close()
    assert [[point[-2] for point in points] for _, _, points in counted] == [[2], [0]] * 2
    assert counted[:2] == counted[2:]


_VARIABLES = {
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "0",
    "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
    "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS": "true",
    "OTEL_SDK_DISABLED": "true",
}


@pytest.mark.parametrize(("variable", "value"), _VARIABLES.items(), ids=_VARIABLES)
async def test_variables(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable asks for comes about."""
    monkeypatch.setenv(variable, value)
    stranger = _PLAIN.with_headers((b"traceparent", _SAMPLED))
    requests = [stranger, _Request("/fails", query=b"a=1"), _Request(method="BREW"), _Request("/calls")]
    await _Shop(_shop).agrees(*requests, monkeypatch=monkeypatch)


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    ],
)
async def test_captured_headers(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where headers are captured requests go through contrib's middleware."""
    monkeypatch.setenv(variable, "content-.*,user-agent")
    official, _ = await _Shop(_shop).agrees(_Request(), monkeypatch=monkeypatch, fast=0)
    assert any(".header." in name for name, _ in official.spans[0]["attributes"])


@pytest.mark.parametrize("mode", [_StabilityMode.DEFAULT, _StabilityMode.HTTP_DUP])
async def test_other_conventions(mode: _StabilityMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the old conventions are asked for, too, requests go through contrib's middleware."""
    _OpenTelemetrySemanticConventionStability._initialize()
    modes = _OpenTelemetrySemanticConventionStability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    monkeypatch.setitem(modes, _OpenTelemetryStabilitySignalType.HTTP, mode)
    official, _ = await _Shop(_shop).agrees(_Request(), monkeypatch=monkeypatch, fast=0)
    assert "http.status_code" in dict(official.spans[0]["attributes"])


async def test_excluded_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs that are excluded leave nothing but their log line."""
    monkeypatch.setattr(contrib_fastapi, "_excluded_urls_from_env", parse_excluded_urls("orders:8000/files,nowhere$"))
    requests = [_Request("/files/a"), _Request(), _Request("/nowhere")]
    official, _ = await _Shop(_shop).agrees(*requests, monkeypatch=monkeypatch, fast=1)
    assert len(official.spans) == 1


async def test_response_propagator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where answers carry the trace, requests go through contrib's middleware."""
    monkeypatch.setattr(response_propagators, "_RESPONSE_PROPAGATOR", TraceResponsePropagator())
    official, _ = await _Shop(_shop).agrees(_Request(), monkeypatch=monkeypatch, fast=0)
    assert "traceresponse" in repr(official.answers)


class _OwnPropagator(TraceContextTextMapPropagator):
    """One that finds a caller in a header of its own, and does not say in which."""

    def extract(self, carrier: Any, context: context.Context | None = None, getter: Any = None) -> context.Context:
        (value,) = getter.get(carrier, "x-trace") or (None,)
        return super().extract({"traceparent": value} if value else {}, context)


@pytest.mark.parametrize("inbound_context", ["link", "continue", "ignore"])
@pytest.mark.parametrize("propagator", [_OwnPropagator(), TraceContextTextMapPropagator()])
async def test_other_propagators(
    propagator: Any, inbound_context: InboundContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever contexts are propagated by is asked for the parent."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", propagator)
    requests = [
        _Request("/calls"),
        _Request("/calls").with_headers((b"x-trace", _SAMPLED)),
        _Request("/calls").with_headers((b"traceparent", _SAMPLED), (b"baggage", b"a=1")),
    ]
    await _Shop(_shop, inbound_context=inbound_context).agrees(*requests, monkeypatch=monkeypatch)


def _within_span() -> Any:
    return trace.use_span(trace.NonRecordingSpan(trace.SpanContext(77, 88, False, trace.TraceFlags(1))))


@pytest.mark.parametrize("around", [suppress_instrumentation, _within_span])
async def test_contexts(around: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a context that suppresses instrumentation, or has a span, requests go through contrib's middleware."""
    await _Shop(_shop, around=around).agrees(_Request("/calls"), monkeypatch=monkeypatch, fast=0)


def _with_middleware(kind: str) -> Callable[[], FastAPI]:
    def make() -> FastAPI:
        app = _shop()
        if kind == "answers":

            @app.middleware("http")
            async def answer(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
                if request.url.path == "/fails":
                    raise RuntimeError("before the route")
                response = await call_next(request)
                response.headers["x-seen"] = (
                    trace.get_current_span().get_span_context().span_id.to_bytes(8, "big").hex()
                )
                return response

        elif kind == "handles":

            @app.exception_handler(ValueError)
            async def handle(_request: Request, error: ValueError) -> Response:
                trace.get_current_span().set_attribute("handled", str(error))
                return PlainTextResponse("handled", 418)

        elif kind == "handles-all":

            @app.exception_handler(Exception)
            def handle_all(_request: Request, error: Exception) -> Response:
                return PlainTextResponse("sorry", 503)

        elif kind == "debug":
            app.debug = True
        elif kind == "base":

            class Base(BaseHTTPMiddleware):
                async def dispatch(self, request: Request, call_next: Any) -> Response:
                    with trace.get_tracer("t").start_as_current_span("base"):
                        return await call_next(request)  # type: ignore[no-any-return]

            app.add_middleware(Base)
        elif kind == "root-path":
            app.root_path = "/api"
        return app

    return make


@pytest.mark.parametrize("kind", ["answers", "handles", "handles-all", "base", "root-path"])
async def test_applications(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an application puts between the span and its routes meets the same."""
    requests = [
        _Request("/orders/1"),
        _Request("/fails"),
        _Request("/stream"),
        _Request("/stream", query=b"fail=true"),
        _Request("/background", query=b"fail=true"),
        _Request("/inside/things/4"),
        _Request("/nowhere"),
    ]
    await _Shop(_with_middleware(kind)).agrees(*requests, monkeypatch=monkeypatch)


async def test_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """In debug mode an exception is answered with its stack, which names the layers that it passed."""
    shop = _Shop(_with_middleware("debug"))
    official, quick = [
        await shop.told([_Request("/fails")], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert quick.spans == official.spans
    assert all("no such luck" in str(told.answers) for told in (official, quick))


def _hosts() -> FastAPI:
    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    app = _shop()
    app.router.routes.insert(0, Host("{tenant}.example.org", Starlette(routes=[Route("/home", home)])))
    return app


async def test_unknown_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a route is of a kind that is not known, contrib is asked for each request's route."""
    requests = [_Request(), _Request("/home", headers=((b"host", b"acme.example.org"),)), _Request("/nowhere")]
    await _Shop(_hosts).agrees(*requests, monkeypatch=monkeypatch)


async def test_late_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes that come or go while the application runs are found, or not."""

    def changing() -> FastAPI:
        app = _shop()

        @app.post("/routes/{name}")
        async def add(name: str) -> None:
            app.add_api_route(f"/{name}/{{key}}", lambda: name)

        @app.delete("/routes")
        async def remove() -> None:
            del app.router.routes[-1]

        return app

    requests = [
        _Request("/late/1"),
        _Request("/routes/late", method="POST"),
        _Request("/late/1"),
        _Request("/routes", method="DELETE"),
        _Request("/late/1"),
    ]
    official, _ = await _Shop(changing).agrees(*requests, monkeypatch=monkeypatch)
    assert [span["name"] for span in official.spans][::2] == ["GET", "GET /late/{key}", "GET"]


async def test_size_of_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrib takes the size of another answer for that of one without Content-Length; the fast path takes none."""
    counts = []
    for fast in (False, True):
        shop = _Shop(_shop, leaks=True)
        told = await shop.told([_Request(), _Request("/stream")], fast=fast, monkeypatch=monkeypatch)
        counts.append(sum(point[1] for point in told.metrics["after 2"]["http.server.response.body.size"][2]))
    assert counts == [2, 1]


@pytest.mark.parametrize(
    "request_",
    [_Request(query=b"a=\xff"), _Request(headers=((b"user-agent", b"\xff\\x"),))],
    ids=["query", "header"],
)
async def test_no_text(request_: _Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrib fails requests with bytes that are no text; the fast path serves them."""
    official, quick = [
        await _Shop(_shop).told([request_], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert "UnicodeDecodeError" in repr(official.answers)
    assert official.spans == []
    assert dict(quick.spans[0]["attributes"])["http.response.status_code"] == 200
    assert "\ufffd" in repr(quick.spans[0]["attributes"])


@pytest.mark.parametrize("size", [b"1" + b"0" * 400, b"-5"], ids=["huge", "negative"])
async def test_impossible_sizes(size: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that cannot be are not recorded, and nothing fails for them as it does with contrib."""
    request = _PLAIN.with_headers((b"content-length", size))
    official, quick = [await _Shop(_shop).told([request], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)]
    assert ("OverflowError" in repr(official.answers)) == (len(size) > 400)
    assert "OverflowError" not in repr(quick.answers)
    assert "http.server.request.body.size" not in quick.metrics["after 1"]
    assert quick.spans == official.spans


async def test_exemplars_of_active_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where callers are believed active requests have one exemplar of a caller, by lot or the last one."""
    shop = _Shop(_shop, inbound_context="continue")
    callers = [f"00-{number:032x}-{_SPAN}-01".encode() for number in (5, 6)]
    requests = [_PLAIN.with_headers((b"traceparent", caller)) for caller in callers]
    for fast in (False, True):
        told = await shop.told(requests, fast=fast, monkeypatch=monkeypatch)
        ((*_, exemplars),) = told.metrics["after 2"]["http.server.active_requests"][2]
        assert exemplars == [6]


async def test_capital_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header with capitals, which ASGI does not allow, is contrib's and not the fast path's."""
    request = _Request(headers=((b"User-Agent", b"odd"),))
    official, quick = [await _Shop(_shop).told([request], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)]
    assert dict(official.spans[0]["attributes"])["user_agent.original"] == "odd"
    assert "user_agent.original" not in dict(quick.spans[0]["attributes"])


async def test_no_propagators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where contexts are not propagated at all contrib fails; the fast path begins a trace."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator([]))
    requests = [_PLAIN, _PLAIN.with_headers((b"traceparent", _SAMPLED))]
    for inbound_context in ("link", "continue"):
        shop = _Shop(_shop, inbound_context=inbound_context)
        official, quick = [await shop.told(requests, fast=fast, monkeypatch=monkeypatch) for fast in (False, True)]
        assert "AttributeError" in repr(official.answers[0])
        assert [span["ids"][0] for span in quick.spans] == [1, 2]


async def test_dropped_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where attributes are too many the same ones stay, and their number is told once."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "6")
    official, quick = [
        await _Shop(_shop).told([_Request()], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert quick.spans[0]["dropped"][0] == 11 - 6
    assert quick.spans[0]["dropped"][0] < official.spans[0].pop("dropped")[0]
    assert {**official.spans[0], "dropped": quick.spans[0]["dropped"]} == quick.spans[0]


async def test_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack of an exception is that of the application, from the layer on that records it."""
    stacks = []
    shown = _shown

    def with_stack(span: ReadableSpan) -> dict[str, Any]:
        stacks.append(str((span.events[0].attributes or {})["exception.stacktrace"]))
        return shown(span)

    monkeypatch.setitem(globals(), "_shown", with_stack)
    for fast in (False, True):
        await _Shop(_shop).told([_Request("/fails")], fast=fast, monkeypatch=monkeypatch)
    official, quick = (stack.split('  File "') for stack in stacks)
    assert official[1] != quick[1]
    assert official[:1] + official[2:] == quick[:1] + quick[2:]
