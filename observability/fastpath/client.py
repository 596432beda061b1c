"""The span, the metrics and the headers of one sent request, as contrib's httpx instrumentation gives them.

What contrib works out for each request is worked out here once for each method and server, and once for each of its
statuses. Differences that are meant:

    a URL of more than 65,536 characters    is sent; contrib raises `httpx.InvalidURL` in the place of the answer
    attributes of whoever calls             are there when the span starts, for samplers; contrib's hook comes after
    OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS
                                            is read once for each method and server, not at each request
    `exception.stacktrace`                  has a frame of this file in the place of contrib's three
    `uninstrument_client` of contrib's      does not take it off again
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

import httpx
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    attach,
    detach,
    get_current,
)
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo, ResponseInfo
from opentelemetry.instrumentation.utils import http_status_to_status_code
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
)
from opentelemetry.semconv.attributes.network_attributes import (
    NETWORK_PEER_ADDRESS,
    NETWORK_PEER_PORT,
    NETWORK_PROTOCOL_VERSION,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.http import PARAMS_TO_REDACT, redact_url, sanitize_method
from opentelemetry.util.types import AttributeValue

from observability.fastpath.instruments import PreparedInstrument

Attributes = Mapping[str, AttributeValue]
Describe = Callable[[MutableMapping[str, Any]], Attributes]
"""What else stands on the span of a request with these extensions."""

_MAX_TARGETS: Final = 256
"""Methods and servers that are remembered, and answers of each; then they are forgotten and learned again."""

_SUPPRESS_PLAIN: Final = "suppress_instrumentation"
_NO_VERSION: Final = b"HTTP/1.1"

_MAY_BE_SECRET: Final = re.compile("|".join(["%", *map(re.escape, PARAMS_TO_REDACT)]))
"""A query without any of these has no parameter that contrib hides; names of parameters may be percent-encoded."""

logger = logging.getLogger(__name__)


def observe_transport(
    inner: httpx.AsyncBaseTransport,
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    *,
    fast: bool,
    business_answers: Collection[int] = (),
    describe: Describe | None = None,
) -> httpx.AsyncBaseTransport:
    """Give each request through a transport a client span, the client metrics, and the trace context in its headers.

    Contrib's transport does it where the fast path is off or does not cover what the variables ask for: other than the
    stable conventions, headers as attributes, or URLs that are left out.

    Args:
        inner: Sends the requests.
        tracer_provider: Makes the tracer.
        meter_provider: Makes the meter.
        fast: Whether the fast path may be taken.
        business_answers: Statuses that are no errors although they are 4xx: the span's status is OK.
        describe: What else stands on each span.
    """

    async def add_description(span: Span, request: RequestInfo) -> None:
        if describe is not None and request.extensions is not None:
            span.set_attributes(describe(request.extensions))

    async def accept_business_answer(span: Span, _request: RequestInfo, response: ResponseInfo) -> None:
        if response.status_code in business_answers:
            span.set_status(StatusCode.OK)  # the status that says "as designed"

    official = AsyncOpenTelemetryTransport(
        inner,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        request_hook=add_description,
        response_hook=accept_business_answer,
    )
    parts = _parts(official) if fast else None
    return official if parts is None else ClientSpans(inner, *parts, business_answers, describe)


def _parts(official: AsyncOpenTelemetryTransport) -> tuple[Tracer, Histogram] | None:
    """Contrib's own tracer and histogram; None where it would do more than is done here.

    They are private to contrib, and its own for a reason: the telemetry's scope is contrib's, with its version.
    """
    try:
        plain = not (
            official._excluded_urls._excluded_urls  # noqa: SLF001 - see above
            or official._captured_request_headers  # noqa: SLF001
            or official._captured_response_headers  # noqa: SLF001
            or official._duration_histogram_old  # noqa: SLF001
        )
        tracer, duration = official._tracer, official._duration_histogram_new  # noqa: SLF001
    except AttributeError:
        logger.warning("this version of opentelemetry-instrumentation-httpx is not known: calls cost more")
        return None
    return (tracer, duration) if plain and duration is not None else None


class ClientSpans(httpx.AsyncBaseTransport):
    """Does what contrib's transport does, in the stable conventions.

    Args:
        inner: Sends the requests.
        tracer: Makes the spans.
        duration: Takes how long requests last, in seconds.
        business_answers: Statuses that are no errors although they are 4xx: the span's status is OK.
        describe: What else stands on each span.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        tracer: Tracer,
        duration: Histogram,
        business_answers: Collection[int],
        describe: Describe | None,
    ) -> None:
        self._inner = inner
        self._tracer = tracer
        self._duration = PreparedInstrument.of(duration)
        self._business_answers = frozenset(business_answers)
        self._describe = describe
        self._targets: dict[tuple[str, str, int | None], _Target] = {}
        self._propagation = _Propagation()

    async def __aenter__(self) -> Self:
        """Enter the inner transport."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the inner transport."""
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request under a span of its own."""
        outer = get_current()
        if (
            outer.get(_SUPPRESS_INSTRUMENTATION_KEY)
            or outer.get(_SUPPRESS_PLAIN)
            or outer.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)
        ):
            return await self._inner.handle_async_request(request)
        target = self._target(request)
        attributes = {**target.attributes, URL_FULL: _redacted(str(request.url))}
        if self._describe is not None:
            attributes.update(self._describe(request.extensions))
        span = self._tracer.start_span(target.span_name, outer, SpanKind.CLIENT, attributes)
        context = set_span_in_context(span, outer)
        token = attach(context)
        try:
            self._propagation.inject(span, context, request.headers)
            began = perf_counter()
            response = await self._inner.handle_async_request(request)
            elapsed_s = perf_counter() - began
            answer = self._answer(target, response)
            if span.is_recording():
                answer.describe(span)
            self._duration.record(elapsed_s, answer.key, answer.metric_attributes, span.get_span_context())
        except Exception as error:
            if span.is_recording():
                self._failed(target, span, error)
            raise
        else:
            return response
        finally:
            detach(token)
            span.end()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _failed(self, target: _Target, span: Span, error: Exception) -> None:
        response = getattr(error, "response", None)
        if isinstance(response, httpx.Response):
            self._answer(target, response).describe(span)
        span.set_attribute(ERROR_TYPE, type(error).__qualname__)
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    def _target(self, request: httpx.Request) -> _Target:
        url = request.url
        key = (request.method, url.host, url.port)
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            target = self._targets[key] = _Target(*key)
        return target

    def _answer(self, target: _Target, response: httpx.Response) -> _Answer:
        key = (response.status_code, response.extensions.get("http_version", _NO_VERSION))
        answer = target.answers.get(key)
        if answer is None:
            if len(target.answers) >= _MAX_TARGETS:
                target.answers.clear()
            status = response.status_code
            accepted = status in self._business_answers
            answer = target.answers[key] = _Answer(target, status, response.http_version, accepted=accepted)
        return answer


class _Target:
    """What all requests of one method to one server have in common."""

    __slots__ = ("answers", "attributes", "metric_attributes", "span_name")

    def __init__(self, method: str, host: str, port: int | None) -> None:
        known = sanitize_method(method)
        plain = known.strip()
        self.span_name = "HTTP" if (name := sanitize_method(method.strip())) == "_OTHER" else name
        self.metric_attributes: dict[str, AttributeValue] = {}
        if plain:
            self.metric_attributes[HTTP_REQUEST_METHOD] = plain
        if host:
            self.metric_attributes[SERVER_ADDRESS] = host
        if port:
            self.metric_attributes[SERVER_PORT] = port
        self.attributes: dict[str, AttributeValue] = dict(self.metric_attributes)
        original = method.strip()
        if original and original != plain:
            self.attributes[HTTP_REQUEST_METHOD_ORIGINAL] = original
        if host:
            self.attributes[NETWORK_PEER_ADDRESS] = host
        if port:
            self.attributes[NETWORK_PEER_PORT] = port
        self.answers: dict[tuple[int, bytes], _Answer] = {}


class _Answer:
    """What all answers of one status and version have in common."""

    __slots__ = ("_attributes", "_metric_attributes", "_status", "key")

    def __init__(self, target: _Target, status: int, http_version: str, *, accepted: bool) -> None:
        self._attributes: dict[str, AttributeValue] = {HTTP_RESPONSE_STATUS_CODE: status}
        failed = http_status_to_status_code(status) is StatusCode.ERROR
        if failed:
            self._attributes[ERROR_TYPE] = str(status)
        if version := http_version.replace("HTTP/", ""):
            self._attributes[NETWORK_PROTOCOL_VERSION] = version
        self._status = StatusCode.OK if accepted else StatusCode.ERROR if failed else None
        self._metric_attributes = {**target.metric_attributes, **self._attributes}
        self.key = tuple(self._metric_attributes.items())

    def metric_attributes(self) -> Attributes:
        return self._metric_attributes

    def describe(self, span: Span) -> None:
        span.set_attributes(self._attributes)
        if self._status is not None:
            span.set_status(self._status)


class _Propagation:
    """The global propagator; where that is the default one, what it does with a span is done here."""

    def __init__(self) -> None:
        self._of: TextMapPropagator | None = None
        self._default = False
        self._baggage = W3CBaggagePropagator()

    def inject(self, span: Span, context: Context, headers: httpx.Headers) -> None:
        propagator = get_global_textmap()
        if propagator is not self._of:
            self._of, self._default = propagator, _is_default(propagator)
        if not self._default:
            propagator.inject(headers, context)
            return
        told = span.get_span_context()
        if told != INVALID_SPAN_CONTEXT:
            headers["traceparent"] = f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"
            if told.trace_state:
                headers["tracestate"] = told.trace_state.to_header()
        if len(context) > 1:  # than the span
            self._baggage.inject(headers, context)


def _is_default(propagator: TextMapPropagator) -> bool:
    parts = getattr(propagator, "_propagators", ()) if type(propagator) is CompositePropagator else ()
    return [type(part) for part in parts] == [TraceContextTextMapPropagator, W3CBaggagePropagator]


def _redacted(url: str) -> str:
    """The URL as contrib shows it."""
    _, mark, query = url.partition("?")
    if "@" in url or (mark and _MAY_BE_SECRET.search(query)):
        return redact_url(url)
    return url
