"""The same requests through contrib's middleware alone and through the fast path leave the same telemetry.

Spans, metrics, log lines, answers and the context that a handler hands on are compared. What differs on purpose stands
in `test_server_differences.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse, Response
from opentelemetry import context, propagate, trace
from opentelemetry.instrumentation import fastapi as contrib_fastapi
from opentelemetry.instrumentation import propagators as response_propagators
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability,
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)
from opentelemetry.instrumentation.propagators import TraceResponsePropagator
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.http import parse_excluded_urls
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Host, Route

from observability.inbound import InboundContext
from observability.instrument import observe
from observability.providers import Telemetry
from tests.observability.fastpath.parity import (
    PLAIN,
    SAMPLED,
    SPAN_ID,
    TRACE_ID,
    UNSAMPLED,
    BothWays,
    Request,
    measured,
)
from tests.observability.fastpath.parity_shop import shop

pytestmark = pytest.mark.anyio

_REQUESTS = {
    "plain": PLAIN,
    "twice": PLAIN,
    "post": Request(method="POST", body=b"12345").with_headers((b"content-length", b"5")),
    "empty-body": Request(method="POST").with_headers((b"content-length", b"0")),
    "odd-length": Request(method="POST", body=b"1").with_headers((b"content-length", b"one")),
    **{f"method-{method}": Request(method=method) for method in ("HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "QUERY")},
    **{f"odd-{method!r}": Request(method=method) for method in ("get", "BREW", "  GET ", "CONNECT", "PROPFIND")},
    "delete": Request(method="DELETE"),
    **{
        f"status-{code}": Request(f"/status/{code}") for code in (100, 199, 200, 204, 304, 418, 499, 500, 503, 599, 600)
    },
    **{f"error-{code}": Request(f"/errors/{code}") for code in (400, 401, 404, 429, 500, 502)},
    "invalid": Request("/status/none"),
    "fails": Request("/fails"),
    "stops": Request("/stops"),
    "stream": Request("/stream"),
    "stream-fails": Request("/stream", query=b"fail=true"),
    "background": Request("/background"),
    "background-fails": Request("/background", query=b"fail=true"),
    "hangs-up": Request("/hangs", hangs_up=True),
    "hangs-up-at-once": Request("/orders/17", hangs_up=True),
    "breaks-off": Request("/orders/17", breaks_off=True),
    "cancelled": Request("/waits", cancelled=True),
    "unknown": Request("/nowhere"),
    "root": Request("/"),
    "docs": Request("/openapi.json"),
    "slash": Request("/slash"),
    "slash-taken": Request("/orders/17/"),
    "paths": Request("/files/a/b/c"),
    "no-path": Request("/files/"),
    "number": Request("/numbers/12"),
    "no-number": Request("/numbers/twelve"),
    "float-and-uuid": Request("/prices/1.5/0af76519-16cd-43dd-8448-eb211c80319c"),
    "line-break": Request("/orders/17\n"),
    "unicode": Request("/orders/größe-\U0001f600"),
    "encoded": Request("/orders/a/b", scope={"raw_path": b"/orders/a%2Fb"}),
    "included": Request("/v1/items/3"),
    "included-partial": Request("/v1/items/3", method="DELETE"),
    "included-post": Request("/v1/items", method="POST", body=b"abc"),
    "included-deep": Request("/v1/deep/x/y", method="PUT"),
    "mounted": Request("/inside/things/4"),
    "mounted-fails": Request("/inside/fails"),
    "mounted-unknown": Request("/inside/nowhere"),
    "mounted-root": Request("/inside"),
    "mounted-starlette": Request("/plain/home"),
    "mounted-parameter": Request("/tenants/acme/home"),
    "static": Request("/assets/conftest.py"),
    "static-unknown": Request("/assets/none.py"),
    "static-head": Request("/assets/conftest.py", method="HEAD"),
    "any-method": Request("/any-method", method="DELETE"),
    "renames": Request("/renames"),
    "secret-query": Request(query=b"token=secret&page=2&sig=abc"),
    "encoded-query": Request(query=b"a=%C3%A4&b=%"),
    "no-headers": Request(headers=()),
    "two-hosts": PLAIN.with_headers((b"host", b"other")),
    "two-agents": PLAIN.with_headers((b"user-agent", b"googlebot")),
    "bot": Request(headers=((b"host", b"o"), (b"user-agent", b"Mozilla/5.0 (compatible; Googlebot/2.1)"))),
    "synthetic": Request(headers=((b"host", b"o"), (b"user-agent", b"AlwaysOn/1.0"))),
    "empty-agent": Request(headers=((b"user-agent", b""),)),
    "latin-agent": Request(headers=((b"user-agent", b"caf\xe9"),)),
    "long-agent": Request(headers=((b"user-agent", b"x" * 2000),)),
    "utf-8-agent": Request(headers=((b"user-agent", "größe".encode()),)),
    "http-1.0": Request(scope={"http_version": "1.0"}),
    "http-2": Request(scope={"http_version": "2"}),
    "https": Request(scope={"scheme": "https", "server": ("example.org", 443)}),
    "port-80": Request(scope={"server": ("example.org", 80)}),
    "ipv6": Request(scope={"server": ("::1", 8000), "client": ("2001:db8::1", 5)}),
    "socket": Request(scope={"server": ("/run/orders.sock", None), "client": None}),
    "no-server": Request(scope={"server": None}),
    "no-client": Request(scope={"client": ...}),
    "odd-client": Request(scope={"client": ("", 0)}),
    "root-path": Request("/api/orders/17", scope={"root_path": "/api"}),
    "root-path-stripped": Request("/orders/17", scope={"root_path": "/api"}),
    "root-path-alone": Request("/api", scope={"root_path": "/api"}),
}

_NOT_COVERED = {
    "list-server": Request(scope={"server": ["127.0.0.1", 8000]}),
    "missing-server": Request(scope={"server": ...}),
    "missing-scheme": Request(scope={"scheme": ...}),
    "empty-version": Request(scope={"http_version": ""}),
    "websocket": Request("/ws", scope={"type": "websocket", "scheme": "ws"}),
}


@pytest.mark.parametrize("request_", _REQUESTS.values(), ids=_REQUESTS)
async def test_requests(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of this kind leaves the same, the first and the second time."""
    await BothWays(shop).agrees(request_, request_, monkeypatch=monkeypatch)


@pytest.mark.parametrize("request_", _NOT_COVERED.values(), ids=_NOT_COVERED)
async def test_not_covered(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not covered is contrib's, and leaves the same."""
    await BothWays(shop).agrees(request_, monkeypatch=monkeypatch, fast=0)


_CALLERS = {
    "none": (),
    "sampled": ((b"traceparent", SAMPLED),),
    "unsampled": ((b"traceparent", UNSAMPLED),),
    "twice": ((b"traceparent", SAMPLED), (b"traceparent", UNSAMPLED)),
    "state": ((b"traceparent", SAMPLED), (b"tracestate", b"a=1,b=2")),
    "states": ((b"traceparent", SAMPLED), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")),
    "odd-state": ((b"traceparent", SAMPLED), (b"tracestate", b"=,;" + b"x" * 600)),
    "state-alone": ((b"tracestate", b"a=1"),),
    "baggage": ((b"traceparent", SAMPLED), (b"baggage", b"user=7,tenant=acme%20co")),
    "baggage-alone": ((b"baggage", b"user=7"),),
    "odd-baggage": ((b"baggage", b"a" * 9000), (b"baggage", b"b=1")),
    **{
        f"odd-{text[:24]!r}": ((b"traceparent", text),)
        for text in (
            b"",
            b"nonsense",
            SAMPLED + b"-more",
            b" " + SAMPLED + b"\t",
            SAMPLED.upper(),
            b"01" + SAMPLED[2:] + b"-more",
            b"ff" + SAMPLED[2:],
            f"00-{'0' * 32}-{SPAN_ID}-01".encode(),
            f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
            f"00-{TRACE_ID}-{SPAN_ID}-03".encode(),
            f"00-{TRACE_ID}-{SPAN_ID}-ff".encode(),
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
    request = Request("/calls").with_headers(*headers)
    await BothWays(shop, inbound_context=inbound_context).agrees(request, monkeypatch=monkeypatch)


class _Looking(Sampler):
    """A sampler that decides by the name, and tells what it was shown."""

    def __init__(self, seen: list[object]) -> None:
        self._seen = seen

    def should_sample(  # noqa: PLR0917 - as the SDK has it
        self,
        parent_context: context.Context | None,  # noqa: ARG002 - as the SDK calls it
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,  # noqa: ARG002 - as the SDK calls it
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
        both = BothWays(shop, sampler=ParentBased(_Looking(shown[-1])), inbound_context="continue")
        requests = [Request(), Request("/inside/things/1"), PLAIN.with_headers((b"traceparent", UNSAMPLED))]
        told = await both.told(requests, fast=fast, monkeypatch=monkeypatch)
        assert len(told.spans) == 1
    assert len(shown[0]) == 2
    assert shown[0] == shown[1]


async def test_unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is sampled there are metrics all the same, without exemplars."""
    both = BothWays(shop, sampler=ParentBased(ALWAYS_OFF))
    official, _ = await both.agrees(Request(), Request("/fails"), monkeypatch=monkeypatch)
    assert official.spans == []
    assert len(official.metrics["after 2"]["http.server.request.duration"][2]) == 2


async def test_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics as differences are the same in each interval, also for active requests, which are never differences."""
    delta = AggregationTemporality.DELTA
    both = BothWays(
        shop, temporality={Histogram: delta, Counter: delta, UpDownCounter: AggregationTemporality.CUMULATIVE}
    )
    requests = [Request(), Request("/nowhere"), Request(), Request()]
    official, _ = await both.agrees(*requests, monkeypatch=monkeypatch)
    assert len(official.metrics["after 3"]["http.server.request.duration"][2]) == 1


async def test_active_requests() -> None:
    """Requests that still run are counted, by their sanitized method and scheme."""
    counted = []
    for fast in (False, True):
        reader = InMemoryMetricReader()
        telemetry = Telemetry.build("orders", metric_readers=[reader], fast=fast)
        app = shop()
        observe(app, telemetry)
        both = asyncio.Barrier(3)

        async def meet_twice(both: asyncio.Barrier = both) -> None:
            await both.wait()
            await both.wait()

        request = Request("/waits", cancelled=True, meanwhile=meet_twice)
        running = [asyncio.create_task(request.to(app)) for _ in range(2)]
        await both.wait()
        counted.append(measured(reader)["http.server.active_requests"])
        await both.wait()
        await asyncio.gather(*running)
        counted.append(measured(reader)["http.server.active_requests"])
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
    stranger = PLAIN.with_headers((b"traceparent", SAMPLED))
    requests = [stranger, Request("/fails", query=b"a=1"), Request(method="BREW"), Request("/calls")]
    await BothWays(shop).agrees(*requests, monkeypatch=monkeypatch)


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
    official, _ = await BothWays(shop).agrees(Request(), monkeypatch=monkeypatch, fast=0)
    assert any(".header." in name for name, _ in official.spans[0]["attributes"])


@pytest.mark.parametrize("mode", [_StabilityMode.DEFAULT, _StabilityMode.HTTP_DUP])
async def test_other_conventions(mode: _StabilityMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the old conventions are asked for, too, requests go through contrib's middleware."""
    _OpenTelemetrySemanticConventionStability._initialize()  # type: ignore[no-untyped-call]  # contrib has no annotation
    modes = _OpenTelemetrySemanticConventionStability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    monkeypatch.setitem(modes, _OpenTelemetryStabilitySignalType.HTTP, mode)
    official, _ = await BothWays(shop).agrees(Request(), monkeypatch=monkeypatch, fast=0)
    assert "http.status_code" in dict(official.spans[0]["attributes"])


async def test_excluded_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs that are excluded leave nothing but their log line."""
    monkeypatch.setattr(contrib_fastapi, "_excluded_urls_from_env", parse_excluded_urls("orders:8000/files,nowhere$"))
    requests = [Request("/files/a"), Request(), Request("/nowhere")]
    official, _ = await BothWays(shop).agrees(*requests, monkeypatch=monkeypatch, fast=1)
    assert len(official.spans) == 1


async def test_response_propagator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where answers carry the trace, requests go through contrib's middleware."""
    monkeypatch.setattr(response_propagators, "_RESPONSE_PROPAGATOR", TraceResponsePropagator())
    official, _ = await BothWays(shop).agrees(Request(), monkeypatch=monkeypatch, fast=0)
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
        Request("/calls"),
        Request("/calls").with_headers((b"x-trace", SAMPLED)),
        Request("/calls").with_headers((b"traceparent", SAMPLED), (b"baggage", b"a=1")),
    ]
    await BothWays(shop, inbound_context=inbound_context).agrees(*requests, monkeypatch=monkeypatch)


def _within_span() -> Any:
    return trace.use_span(trace.NonRecordingSpan(trace.SpanContext(77, 88, False, trace.TraceFlags(1))))


@pytest.mark.parametrize("around", [suppress_instrumentation, _within_span])
async def test_contexts(around: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a context that suppresses instrumentation, or has a span, requests go through contrib's middleware."""
    await BothWays(shop, around=around).agrees(Request("/calls"), monkeypatch=monkeypatch, fast=0)


def _with_middleware(kind: str) -> Callable[[], FastAPI]:
    def make() -> FastAPI:
        app = shop()
        if kind == "answers":

            @app.middleware("http")
            async def answer(request: HttpRequest, call_next: Callable[[HttpRequest], Awaitable[Response]]) -> Response:
                if request.url.path == "/fails":
                    raise RuntimeError("before the route")
                response = await call_next(request)
                response.headers["x-seen"] = (
                    trace.get_current_span().get_span_context().span_id.to_bytes(8, "big").hex()
                )
                return response

        elif kind == "handles":

            @app.exception_handler(ValueError)
            async def handle(_request: HttpRequest, error: ValueError) -> Response:
                trace.get_current_span().set_attribute("handled", str(error))
                return PlainTextResponse("handled", 418)

        elif kind == "handles-all":

            @app.exception_handler(Exception)
            def handle_all(_request: HttpRequest, _error: Exception) -> Response:
                return PlainTextResponse("sorry", 503)

        elif kind == "debug":
            app.debug = True
        elif kind == "base":

            class Base(BaseHTTPMiddleware):
                async def dispatch(self, request: HttpRequest, call_next: Any) -> Response:
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
        Request("/orders/1"),
        Request("/fails"),
        Request("/stream"),
        Request("/stream", query=b"fail=true"),
        Request("/background", query=b"fail=true"),
        Request("/inside/things/4"),
        Request("/nowhere"),
    ]
    await BothWays(_with_middleware(kind)).agrees(*requests, monkeypatch=monkeypatch)


async def test_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """In debug mode an exception is answered with its stack, which names the layers that it passed."""
    both = BothWays(_with_middleware("debug"))
    official, quick = [
        await both.told([Request("/fails")], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert quick.spans == official.spans
    assert all("no such luck" in str(told.answers) for told in (official, quick))


def _hosts() -> FastAPI:
    async def home(_request: HttpRequest) -> PlainTextResponse:
        return PlainTextResponse("home")

    app = shop()
    app.router.routes.insert(0, Host("{tenant}.example.org", Starlette(routes=[Route("/home", home)])))
    return app


async def test_unknown_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a route is of a kind that is not known, contrib is asked for each request's route."""
    requests = [Request(), Request("/home", headers=((b"host", b"acme.example.org"),)), Request("/nowhere")]
    await BothWays(_hosts).agrees(*requests, monkeypatch=monkeypatch)


async def test_late_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes that come or go while the application runs are found, or not."""

    def changing() -> FastAPI:
        app = shop()

        @app.post("/routes/{name}")
        async def add(name: str) -> None:
            app.add_api_route(f"/{name}/{{key}}", lambda: name)

        @app.delete("/routes")
        async def remove() -> None:
            del app.router.routes[-1]

        return app

    requests = [
        Request("/late/1"),
        Request("/routes/late", method="POST"),
        Request("/late/1"),
        Request("/routes", method="DELETE"),
        Request("/late/1"),
    ]
    official, _ = await BothWays(changing).agrees(*requests, monkeypatch=monkeypatch)
    assert [span["name"] for span in official.spans][::2] == ["GET", "GET /late/{key}", "GET"]
