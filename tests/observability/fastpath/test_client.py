"""The fast path of sent requests beside contrib's: each scenario goes through both, which have to tell the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context, attach, detach, set_value
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import NoOpTracerProvider, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observability.fastpath import client as client_module
from observability.fastpath.client import ClientSpans, observe_transport
from observability.providers import Telemetry

pytestmark = pytest.mark.anyio

Scenario = Callable[[httpx.AsyncBaseTransport], Awaitable[object]]
URL = "http://inventory:8001/stock/17"


@pytest.fixture
def anyio_backend() -> str:
    """Services run on asyncio."""
    return "asyncio"


class Inner(httpx.AsyncBaseTransport):
    """Answers as it is told, and keeps what it was sent and under which span."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]) -> None:
        self._answer = answer
        self.sent: list[tuple[str, list[tuple[bytes, bytes]], bytes]] = []
        self.under: list[SpanContext] = []
        self.entered: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.under.append(trace.get_current_span().get_span_context())
        body = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]
        self.sent.append((str(request.url), request.headers.raw, body))
        answer = self._answer(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    async def __aenter__(self) -> Inner:
        self.entered.append("in")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.entered.append("out")

    async def aclose(self) -> None:
        self.entered.append("closed")


class CountingIds(IdGenerator):
    """1, 2, 3, and so on."""

    def __init__(self) -> None:
        self._last = 0

    def generate_trace_id(self) -> int:
        self._last += 1
        return self._last

    generate_span_id = generate_trace_id


def ok(status: int = 200, **settings: Any) -> Callable[[httpx.Request], httpx.Response]:
    """Answers."""
    return lambda _: httpx.Response(status, **settings)


def fails(error: BaseException) -> Callable[[httpx.Request], httpx.Response]:
    """Raises."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def get(url: str = URL, method: str = "GET", **request: Any) -> Scenario:
    """One request."""

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        await transport.handle_async_request(httpx.Request(method, url, **request))

    return play


async def told(
    scenario: Scenario,
    answer: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]],
    *,
    fast: bool,
    sampler: Sampler | None = None,
    **observed: Any,
) -> dict[str, Any]:
    """Play a scenario, and tell all that came of it."""
    exporter, reader, inner = InMemorySpanExporter(), InMemoryMetricReader(), Inner(answer)
    telemetry = Telemetry.build(
        "orders",
        span_processors=[SimpleSpanProcessor(exporter)],
        metric_readers=[reader],
        id_generator=CountingIds(),
        sampler=sampler,
    )
    transport = observe_transport(inner, telemetry.tracer_provider, telemetry.meter_provider, fast=fast, **observed)
    assert type(transport) is (ClientSpans if fast else AsyncOpenTelemetryTransport)
    outcome: object = None
    before = trace.get_current_span()
    try:
        await scenario(transport)
    except BaseException as error:  # noqa: BLE001 - the outcome is compared, whatever it is
        outcome = (type(error), str(error))
    assert trace.get_current_span() is before
    return {
        "outcome": outcome,
        "sent": inner.sent,
        "under": inner.under,
        "spans": [_span(span) for span in exporter.get_finished_spans()],
        "metrics": _metrics(reader),
    }


def _span(span: ReadableSpan) -> dict[str, Any]:
    assert span.instrumentation_scope is not None
    return {
        "name": span.name,
        "kind": span.kind,
        "context": span.context,
        "parent": span.parent,
        "attributes": {**(span.attributes or {})},
        "status": (span.status.status_code, span.status.description),
        "events": [
            (event.name, {key: value for key, value in (event.attributes or {}).items() if "stacktrace" not in key})
            for event in span.events
        ],
        "links": span.links,
        "scope": span.instrumentation_scope,
    }


def _metrics(reader: InMemoryMetricReader) -> list[Any]:
    data: Any = reader.get_metrics_data()
    return [
        (
            scope.scope,
            (metric.name, metric.unit, metric.description),
            [(dict(point.attributes), point.count, point.explicit_bounds) for point in metric.data.data_points],
        )
        for resource in (data.resource_metrics if data is not None else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


async def compare(
    scenario: Scenario,
    answer: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Hold what the fast path tells against what contrib's transport does."""
    official = await told(scenario, answer or ok(), fast=False, **settings)
    fast = await told(scenario, answer or ok(), fast=True, **settings)
    assert fast == official
    return fast


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "QUERY", "get", "PROPFIND", "_OTHER", "X" * 100])
async def test_method(method: str) -> None:
    """Methods, known and unknown."""
    found = await compare(get(method=method, content=b"body"))
    assert len(found["spans"]) == 1


@pytest.mark.parametrize("all_methods", ["", "true"])
async def test_all_methods(monkeypatch: pytest.MonkeyPatch, all_methods: str) -> None:
    """Unknown methods are told where a variable says so."""
    monkeypatch.setenv("OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS", all_methods)
    found = await compare(get(method="PROPFIND"))
    assert found["spans"][0]["name"] == ("PROPFIND" if all_methods else "HTTP")


@pytest.mark.parametrize(
    "status", [0, 99, 100, 101, 199, 200, 204, 299, 301, 304, 399, 400, 404, 409, 499, 500, 599, 999]
)
@pytest.mark.parametrize("business_answers", [(), {404, 409}], ids=["none", "some"])
async def test_status(status: int, business_answers: set[int]) -> None:
    """Each status: attributes, error or not, and what a dependency answers by its contract."""
    await compare(get(), ok(status), business_answers=business_answers)


@pytest.mark.parametrize("version", [None, b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP/", b"", b"odd", b"\xff"])
async def test_version(version: bytes | None) -> None:
    """The protocol's version, as the connection has it."""
    await compare(get(), ok(extensions={} if version is None else {"http_version": version}))


URLS = [
    "http://inventory",
    "https://inventory/",
    "http://inventory:80/",
    "http://inventory:65535/a?",
    "http://user:password@inventory/a",
    "http://user@inventory/?a=b",
    "http://inventory/a@b?c=d@e",
    "http://inventory/?sig=secret&a=1",
    "http://inventory/?a=1&Signature=s&X-Goog-Signature=t&AWSAccessKeyId=u#f",
    "http://inventory/?s%69g=secret",
    "http://inventory/?a+b=%C3%A4&c=%zz",
    "http://inventory/?design=1",
    "http://inventory/?sig",
    "http://[::1]:8001/a",
    "http://[fe80::1%25eth0]/a",
    "http://127.0.0.1:8001/a b/ä/%2F",
    "http://bücher.example/straße?ü=ö",
    "http://xn--bcher-kva.example:8001/",
    "http://INVENTORY/A/../b//c",
    "http://inventory/#fragment",
    "http://inventory/\U0001f600",
]


@pytest.mark.parametrize("url", URLS)
async def test_url(url: str) -> None:
    """URLs of all kinds: what is hidden of them, and which server they name."""
    await compare(get(url))


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        "http://{}{}{}/{}{}".format,
        st.sampled_from(["", "u@", "u:p@", ":@", "a%40b@"]),
        st.sampled_from(["inventory", "INVENTORY", "a.b-c", "[::1]", "127.0.0.1", "ä.example"]),
        st.sampled_from(["", ":80", ":1"]),
        st.text(st.sampled_from("a/.%20:@;,=&+$!'()*~ä#?[]\\ \"<>^`{|}"), max_size=10),
        st.sampled_from(
            ["", "?", "?a=1", "?sig=1", "?%53ignature=1&sig=2", "?a=sig", "?a;sig=1", "?+sig=1", "?sig=&b=1"]
        ),
    )
)
def test_any_url(url: str) -> None:
    """Whatever httpx takes for a URL."""
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        return
    asyncio.run(_same(url))


async def _same(url: str) -> None:
    await compare(get(url))


class Odd(Exception):  # noqa: N818 - the name is compared
    """An error that has a response, as some clients' have."""

    response = httpx.Response(418, extensions={"http_version": b"HTTP/2"})


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("no connection"),
        httpx.ReadTimeout(""),
        httpx.PoolTimeout("busy"),
        httpx.RemoteProtocolError("no HTTP"),
        httpx.UnsupportedProtocol("ftp"),
        ValueError("other"),
        Odd("with an answer"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error(error: BaseException) -> None:
    """Errors: what the span says of each, and that there is no measurement; a cancellation is none."""
    found = await compare(get(), fails(error))
    assert found["outcome"] is not None
    assert found["metrics"] == []
    assert len(found["spans"]) == 1


async def test_cancelled() -> None:
    """A call that is given up while it waits."""

    async def hang(_: httpx.Request) -> httpx.Response:
        return await asyncio.Event().wait() and httpx.Response(200)

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        task: asyncio.Task[object] = asyncio.create_task(get()(transport))  # type: ignore[arg-type]
        await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await get()(transport)

    found = await compare(play, hang)
    assert [span["status"][0].name for span in found["spans"]] == ["UNSET", "UNSET"]


async def test_redirects_and_cookies() -> None:
    """A client that follows redirects makes a span for each request."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/end":
            return httpx.Response(200, text="end")
        return httpx.Response(302, headers={"location": "/end", "set-cookie": "a=b"})

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
            assert (await client.post("http://shop.example/", json={})).text == "end"

    found = await compare(play, answer)
    assert len(found["spans"]) == 2


async def test_streams() -> None:
    """Bodies that come in pieces, both ways: the span ends with the answer's head."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        async with (
            httpx.AsyncClient(transport=transport) as client,
            client.stream("PUT", URL, content=pieces()) as response,
        ):
            assert [piece async for piece in response.aiter_raw()] == [b"a", b"b"]

    found = await compare(play, lambda _: httpx.Response(200, content=pieces()))
    assert found["sent"][0][2] == b"ab"


async def test_again() -> None:
    """A request that is sent again gets the headers of its new span in the place of the old ones."""
    request = httpx.Request("GET", URL, headers={"TraceParent": "old", "x": "y"})

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        for _ in range(2):
            await transport.handle_async_request(request)

    found = await compare(play)
    assert len({dict(headers)[b"traceparent"] for _, headers, _ in found["sent"]}) == 2


def _within(**context: Any) -> Callable[[Scenario], Scenario]:
    """Have a scenario play under a remote parent."""
    values = {"flags": 1, "state": None, "baggage": {}} | context

    def wrap(scenario: Scenario) -> Scenario:
        async def play(transport: httpx.AsyncBaseTransport) -> None:
            parent = SpanContext(
                7, 8, is_remote=True, trace_flags=TraceFlags(values["flags"]), trace_state=values["state"]
            )
            outer = trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
            for name, value in values["baggage"].items():
                outer = baggage.set_baggage(name, value, outer)
            token = attach(outer)
            try:
                await scenario(transport)
            finally:
                detach(token)

        return play

    return wrap


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"flags": 0},
        {"state": TraceState([("a", "1"), ("b", "2")])},
        {"baggage": {"a": "b", "ä ": "ö, ="}},
        {"baggage": {"large": "x" * 9000}},
        {"flags": 3, "state": TraceState([("a", "1")]), "baggage": {"a": "b"}},
    ],
    ids=["sampled", "unsampled", "tracestate", "baggage", "too much baggage", "all"],
)
@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ALWAYS_OFF, ALWAYS_ON], ids=["parent", "off", "on"])
@pytest.mark.parametrize("answer", [ok(), ok(500), fails(httpx.ReadError("reset"))], ids=["200", "500", "error"])
async def test_parent(context: dict[str, Any], sampler: Sampler, answer: Any) -> None:
    """Parents, sampled and not, with state and baggage, and what of them travels on."""
    await compare(_within(**context)(get()), answer, sampler=sampler)


@contextmanager
def _propagators(*parts: Any) -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator(parts))
    yield
    propagate.set_global_textmap(before)


@pytest.mark.parametrize("parts", [(), (TraceContextTextMapPropagator(),)], ids=["none", "one"])
async def test_propagators(parts: tuple[Any, ...]) -> None:
    """Other propagators than the default ones, also such as are set while requests are sent."""

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        scenario = _within(baggage={"a": "b"})(get())
        await scenario(transport)
        with _propagators(*parts):
            await scenario(transport)
        await scenario(transport)

    found = await compare(play)
    assert [b"baggage" in dict(headers) for _, headers, _ in found["sent"]] == [True, False, True]


@contextmanager
def _suppress_plainly() -> Iterator[None]:
    token = attach(set_value("suppress_instrumentation", True))
    yield
    detach(token)


@pytest.mark.parametrize("suppress_", [suppress_instrumentation, suppress_http_instrumentation, _suppress_plainly])
async def test_suppressed(suppress_: Callable[[], Any]) -> None:
    """Where telemetry is suppressed there is none, and no header either."""

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        with suppress_():
            await get()(transport)

    found = await compare(play)
    assert (found["spans"], found["metrics"]) == ([], [])


async def test_describe() -> None:
    """What else stands on a span is asked for with the request's extensions."""
    found = await compare(
        get(extensions={"peer": "inventory"}), describe=lambda extensions: {"clearspan.peer": extensions["peer"]}
    )
    assert found["spans"][0]["attributes"]["clearspan.peer"] == "inventory"


async def test_description_is_for_samplers() -> None:
    """A sampler sees what else stands on a span, which contrib's hook adds too late."""
    seen: list[Any] = []

    class Seeing(Sampler):
        def should_sample(self, *arguments: Any, attributes: Any = None, **_: Any) -> SamplingResult:
            seen.append(dict(attributes or arguments[4]))
            return SamplingResult(Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "sees"

    await told(get(), ok(), fast=True, sampler=Seeing(), describe=lambda _: {"clearspan.peer": "inventory"})
    assert seen[0]["clearspan.peer"] == "inventory"


async def test_long_url() -> None:
    """A URL that httpx would not take as text is sent; contrib's transport raises in its place."""
    request = httpx.Request("GET", f"{URL}{'x' * 40_000}", params={"a": "x" * 40_000})

    async def play(transport: httpx.AsyncBaseTransport) -> None:
        await transport.handle_async_request(request)

    assert (await told(play, ok(), fast=False))["outcome"][0] is httpx.InvalidURL
    found = await told(play, ok(), fast=True)
    assert found["outcome"] is None
    assert found["spans"][0]["attributes"]["url.full"] == str(request.url)


async def test_many_servers() -> None:
    """However many servers are called, and however they answer, few of them are remembered."""
    versions = iter(range(10_000))
    inner = Inner(lambda _: httpx.Response(200, extensions={"http_version": b"%d" % next(versions)}))
    transport = observe_transport(inner, NoOpTracerProvider(), NoOpMeterProvider(), fast=True)
    assert isinstance(transport, ClientSpans)
    for number in range(1000):
        await get(f"http://inventory-{number}/")(transport)
        await get()(transport)
    assert len(transport._targets) <= 256
    assert all(len(target.answers) <= 256 for target in transport._targets.values())


async def test_no_telemetry() -> None:
    """Without a tracer requests are sent as they are."""
    inner = Inner(ok())
    async with observe_transport(inner, NoOpTracerProvider(), NoOpMeterProvider(), fast=True) as transport:
        await get(headers={"x": "y"})(transport)
        await transport.aclose()
    assert (b"x", b"y") in inner.sent[0][1]
    assert b"traceparent" not in dict(inner.sent[0][1])
    assert inner.entered == ["in", "closed", "out"]


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_PYTHON_HTTPX_EXCLUDED_URLS",
        "OTEL_PYTHON_EXCLUDED_URLS",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE",
    ],
)
def test_not_covered(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """What is not covered is contrib's."""
    monkeypatch.setenv(variable, "stock")
    transport = observe_transport(Inner(ok()), NoOpTracerProvider(), NoOpMeterProvider(), fast=True)
    assert type(transport) is AsyncOpenTelemetryTransport


@pytest.mark.parametrize("mode", [_semconv._StabilityMode.DEFAULT, _semconv._StabilityMode.HTTP_DUP])
def test_other_conventions(monkeypatch: pytest.MonkeyPatch, mode: _semconv._StabilityMode) -> None:
    """The old conventions, and both at once, are contrib's."""
    modes = {_semconv._OpenTelemetryStabilitySignalType.HTTP: mode}
    stability = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", modes)
    monkeypatch.setattr(stability, "_initialized", True)
    transport = observe_transport(Inner(ok()), NoOpTracerProvider(), NoOpMeterProvider(), fast=True)
    assert type(transport) is AsyncOpenTelemetryTransport


def test_unknown_contrib(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where contrib's parts are not what is expected, contrib does it all, and the log says so."""

    class Other(AsyncOpenTelemetryTransport):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            del self._duration_histogram_new

    monkeypatch.setattr(client_module, "AsyncOpenTelemetryTransport", Other)
    transport = observe_transport(Inner(ok()), NoOpTracerProvider(), NoOpMeterProvider(), fast=True)
    assert type(transport) is Other
    assert "is not known" in caplog.text


async def test_kinds() -> None:
    """The span is a client's, and the request is sent under it."""
    found = await compare(get())
    (span,) = found["spans"]
    assert span["kind"] is SpanKind.CLIENT
    assert found["under"] == [span["context"]]
