"""The server span and the server metrics of a plain HTTP request, as contrib's middleware makes them, at less cost.

It stands before contrib's middleware, which stays in the stack for what is not covered here: WebSockets, contexts that
suppress instrumentation or have a span already, global response propagators, and whatever a variable asks for that
the kit does not set. What contrib does in layers around the application (its span, the recording of exceptions, the
answers to those that nobody handled) and what the kit adds (which caller is believed) is one layer here; the
attributes are given to the span when it starts, as contrib's are, so that samplers and processors see the same.
"""

from __future__ import annotations

from timeit import default_timer
from typing import Any, NamedTuple

from fastapi import FastAPI
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.asgi import (
    asgi_getter,
    get_host_port_url_tuple,
    set_status_code,
)
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS, CLIENT_PORT
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_QUERY, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.http import detect_synthetic_user_agent, sanitize_method
from opentelemetry.util.types import AttributeValue
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.fastpath.errors import failing, record_error
from observability.fastpath.instruments import PreparedInstrument, Series
from observability.fastpath.routes import Routes
from observability.inbound import NATIVE_TELEMETRY, InboundContext, claimed_context, link_caller, untrusted_fields

MAX_KNOWN = 1000
"""How many kinds of requests, user agents and sets of metrics are remembered; more are worked out each time."""

MAX_USER_AGENT = 512
"""Bytes of a user agent that is remembered."""

_NO_PARENT = Context()
(_SPAN_KEY,) = set_span_in_context(INVALID_SPAN, _NO_PARENT)
_GETTER: Any = asgi_getter
_USER_AGENT_SYNTHETIC_TYPE = "user_agent.synthetic.type"


class _Head(NamedTuple):
    """What requests have in common that come to one address in one way with one method."""

    before: dict[str, AttributeValue]
    """The attributes before those of the URL, in contrib's order, which counts where their number is limited."""

    after: dict[str, AttributeValue]
    """The attributes behind those of the URL."""

    named: str
    """The method in the span's name."""

    method: str
    """The method in metrics."""

    scheme: str
    version: str

    active: Series


class _Sizes(NamedTuple):
    """The metrics of requests that ended in one way."""

    duration: Series
    request: Series
    response: Series


class ServerSpan:
    """ASGI middleware around the whole of `app`, contrib's middleware within, of which it spares requests the way."""

    def __init__(self, app: ASGIApp, contrib: Any, owner: FastAPI, inbound_context: InboundContext) -> None:
        """Take the place of contrib's middleware, whose tracer and instruments are used.

        Args:
            app: What requests go through that are not covered; contrib's middleware is somewhere in it.
            contrib: That middleware. See `covers`.
            owner: The application, for its routes.
            inbound_context: Which caller is believed.
        """
        self.app = app
        self._inner: ASGIApp = contrib.app
        self._tracer = contrib.tracer
        self._conventions = contrib._sem_conv_opt_in_mode
        excluded = contrib.excluded_urls
        self._excludes = excluded.url_disabled if excluded is not None and excluded._excluded_urls else None
        self._routes = Routes(owner)
        self._believe = inbound_context == "continue"
        self._link = inbound_context == "link"
        self._fields = untrusted_fields()
        self._ordinary = _is_ordinary(propagate.get_global_textmap())
        self._looked_at = self._fields | {b"user-agent", b"content-length"}
        self._active = PreparedInstrument.of(contrib.active_requests_counter)
        self._duration = PreparedInstrument.of(contrib.duration_histogram_new)
        self._request_size = PreparedInstrument.of(contrib.server_request_body_size_histogram)
        self._response_size = PreparedInstrument.of(contrib.server_response_body_size_histogram)
        self._heads: dict[Any, _Head] = {}
        self._actives: dict[tuple[str, str], Series] = {}
        self._sizes: dict[Any, _Sizes] = {}
        self._user_agents: dict[bytes, dict[str, AttributeValue]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = default_timer()
        if (
            scope["type"] != "http"
            or get_current()
            or get_global_response_propagator() is not None  # type: ignore[no-untyped-call]  # contrib has no annotation
            or (self._excludes is not None and self._excludes(_url(scope)))
        ):
            await self.app(scope, receive, send)
            return
        try:
            head = self._head(scope)
        except (KeyError, TypeError, ValueError):
            await self.app(scope, receive, send)  # a server of another kind, for which contrib may have an answer
            return
        scope[NATIVE_TELEMETRY] = None  # as InboundTrust does
        scope, span, parent, route, size = self._start(scope, head)
        response = _Response(span, send, self._conventions)
        caller = get_current_span(parent).get_span_context() if parent else None
        head.active.record(1, caller)
        token = attach(set_span_in_context(span, parent) if parent else Context({_SPAN_KEY: span}))
        try:
            try:
                await self._inner(scope, receive, response.send)
            except Exception as error:
                record_error(span, error)
                raise
            finally:
                # Nothing is waited for, so that it is done whatever ends the request.
                detach(token)
                context = span.get_span_context()
                sizes = self._sizes_of(head, route, response)
                sizes.duration.record(max(default_timer() - start, 0), context)
                head.active.record(-1, caller)
                if response.size:
                    sizes.response.record(response.size, context)
                if size is not None:
                    sizes.request.record(size, context)
                if span.is_recording():
                    span.end()
        except Exception as error:
            if response.begun:
                raise
            await ServerErrorMiddleware(failing(error))(scope, receive, send)  # answers 500, and raises it again

    def _start(self, scope: Scope, head: _Head) -> tuple[Scope, Span, Context, str | None, int | None]:
        """Start the span, with all that is known of the request.

        Returns:
            What the application is given, the span and its parent, the route, and the bytes of the body by its header.
        """
        looked_at = self._looked_at
        user_agent = size = None
        propagated: list[tuple[bytes, bytes]] = []
        for header in [header for header in scope["headers"] if header[0] in looked_at]:
            name, value = header
            if name == b"user-agent":
                user_agent = value if user_agent is None else user_agent
            elif name == b"content-length":
                size = value if size is None else size
            else:
                propagated.append(header)
        parent, link = _NO_PARENT, None
        if propagated:
            scope, parent, link = self._caller(scope, propagated)
        elif not self._ordinary:
            parent = propagate.extract(scope, getter=_GETTER) or _NO_PARENT

        attributes = head.before.copy()
        path = scope["path"]
        if path:
            attributes[URL_PATH] = path
            query = scope.get("query_string")
            if query:
                attributes[URL_QUERY] = query.decode("utf-8", "replace") if isinstance(query, bytes) else query
        attributes.update(head.after)
        if user_agent:
            attributes.update(self._user_agents.get(user_agent) or self._user_agent(user_agent))
        _add_client(attributes, scope)
        route = self._routes.find(scope)
        span_name = head.named
        if route:
            attributes[HTTP_ROUTE] = route
            span_name = f"{span_name} {route}"
        span = self._tracer.start_span(span_name, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        if link is not None:
            span.add_link(link)
        return scope, span, parent, route, None if size is None else _size(size)

    def _head(self, scope: Scope) -> _Head:
        key = (scope["method"], scope["scheme"], scope["server"], scope["http_version"])
        head = self._heads.get(key)
        if head is None:
            head = self._new_head(*key)
            if len(self._heads) < MAX_KNOWN:
                self._heads[key] = head
        return head

    def _new_head(self, raw_method: str, scheme: str, server: tuple[str, int | None] | None, version: str) -> _Head:
        if not (raw_method and scheme and version):
            raise ValueError("contrib leaves out what is empty")
        host, port = server or ("0.0.0.0", 80)  # noqa: S104 - contrib's word for a server that does not tell
        before: dict[str, AttributeValue] = {
            URL_SCHEME: scheme,
            SERVER_ADDRESS: host if port == 80 else f"{host}:{port}",
        }
        if port:
            before[SERVER_PORT] = int(port)
        before[NETWORK_PROTOCOL_VERSION] = version
        method = sanitize_method(raw_method.strip())
        original, sanitized = raw_method.strip(), sanitize_method(raw_method).strip()
        after: dict[str, AttributeValue] = {}
        if original != sanitized and original:
            after[HTTP_REQUEST_METHOD_ORIGINAL] = original
        after[HTTP_REQUEST_METHOD] = sanitized
        active = self._actives.get((sanitized, scheme))
        if active is None:
            active = self._active.series({URL_SCHEME: scheme, HTTP_REQUEST_METHOD: sanitized})
            if len(self._actives) < MAX_KNOWN:
                self._actives[sanitized, scheme] = active
        return _Head(before, after, "HTTP" if method == "_OTHER" else method, sanitized, scheme, version, active)

    def _caller(self, scope: Scope, propagated: list[tuple[bytes, bytes]]) -> tuple[Scope, Context, SpanContext | None]:
        """What the application sees of the caller's headers, the parent, and the caller that is only linked to."""
        link = None
        if not self._believe:
            claimed = [value for name, value in propagated if name == b"traceparent"]
            if self._link and len(claimed) == 1:
                link = claimed_context(claimed[0])
            fields = self._fields
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] not in fields]}
            if self._ordinary:
                return scope, _NO_PARENT, link
        if self._ordinary:
            carrier: dict[str, list[str]] = {}
            for name, value in propagated:
                carrier.setdefault(name.decode("latin-1"), []).append(_text(value))
            return scope, propagate.extract(carrier), None
        # A composite of no propagators gives nothing at all.
        return scope, propagate.extract(scope, getter=_GETTER) or _NO_PARENT, link

    def _user_agent(self, value: bytes) -> dict[str, AttributeValue]:
        text = _text(value)
        attributes: dict[str, AttributeValue] = {USER_AGENT_ORIGINAL: text} if text else {}
        synthetic = detect_synthetic_user_agent(text)
        if synthetic:
            attributes[_USER_AGENT_SYNTHETIC_TYPE] = synthetic
        if len(value) <= MAX_USER_AGENT and len(self._user_agents) < MAX_KNOWN:
            self._user_agents[value] = attributes
        return attributes

    def _sizes_of(self, head: _Head, route: str | None, response: _Response) -> _Sizes:
        key = (head.method, head.scheme, head.version, route, response.status, response.error_type)
        sizes = self._sizes.get(key)
        if sizes is None:
            attributes: dict[str, AttributeValue | None] = {
                ERROR_TYPE: response.error_type,
                HTTP_REQUEST_METHOD: head.method,
                HTTP_RESPONSE_STATUS_CODE: response.status,
                HTTP_ROUTE: route or None,
                NETWORK_PROTOCOL_VERSION: head.version,
                URL_SCHEME: head.scheme,
            }
            known = {name: value for name, value in attributes.items() if value is not None}
            sizes = _Sizes(
                self._duration.series(known), self._request_size.series(known), self._response_size.series(known)
            )
            if len(self._sizes) < MAX_KNOWN:
                self._sizes[key] = sizes
        return sizes


class _Response:
    """An answer as it passes by."""

    __slots__ = ("_conventions", "_send", "_span", "begun", "error_type", "size", "status")

    def __init__(self, span: Span, send: Send, conventions: object) -> None:
        self._span = span
        self._send = send
        self._conventions = conventions
        self.status: int | None = None
        self.error_type: str | None = None
        self.size: int | None = None
        self.begun = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            await self._send(message)
            if not message.get("more_body", False):
                self._span.end()
            return
        if kind == "http.response.start":
            self.begun = True
            self._tell_status(message["status"])
        for name, value in message.get("headers") or ():
            if name == b"content-length":
                size = _size(value)
                self.size = size if size is not None else self.size
                break
        await self._send(message)

    def _tell_status(self, status: Any) -> None:
        span = self._span
        if type(status) is int and 100 <= status < 500:
            self.status = status
            if span.is_recording():
                span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
        elif status:
            told: dict[str, Any] = {}
            set_status_code(span, status, told, self._conventions)  # type: ignore[no-untyped-call]  # contrib has none
            self.status = told.get(HTTP_RESPONSE_STATUS_CODE, self.status)
            self.error_type = told.get(ERROR_TYPE, self.error_type)


def covers(contrib: Any) -> bool:
    """Whether contrib's middleware is set up, by the kit and by variables, as the two layers here take for granted.

    That it has the parts that are asked for, some of them private, is looked at once, when the application starts.
    """
    try:
        hook = contrib.server_request_hook
        recording: Any = contrib.app.app
        return (
            type(contrib.app) is ServerErrorMiddleware
            and type(recording).__name__ == "ExceptionHandlerMiddleware"
            and callable(recording.app)
            and contrib._sem_conv_opt_in_mode.value == "http"
            and contrib.http_capture_headers_server_request is None
            and contrib.http_capture_headers_server_response is None
            and contrib.exclude_receive_span
            and contrib.exclude_send_span
            and (hook is None or hook.__wrapped__ is link_caller)
            and contrib.default_span_details.__module__ == "opentelemetry.instrumentation.fastapi"
            and all(
                instrument is not None
                for instrument in (
                    contrib.active_requests_counter,
                    contrib.duration_histogram_new,
                    contrib.server_request_body_size_histogram,
                    contrib.server_response_body_size_histogram,
                )
            )
            and contrib.tracer is not None
            and (contrib.excluded_urls is None or hasattr(contrib.excluded_urls, "_excluded_urls"))
        )
    except AttributeError:
        return False


def _is_ordinary(propagator: TextMapPropagator) -> bool:
    """Whether it is the specification's default, which finds nothing where none of its headers is."""
    parts = getattr(propagator, "_propagators", ())
    return type(propagator) is CompositePropagator and [type(part) for part in parts] == [
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    ]


def _add_client(attributes: dict[str, AttributeValue], scope: Scope) -> None:
    client = scope.get("client")
    if client is not None:
        address, port = client
        if address:
            attributes[CLIENT_ADDRESS] = address
        if port and isinstance(port, int):
            attributes[CLIENT_PORT] = port


def _url(scope: Scope) -> str:
    url: str = get_host_port_url_tuple(scope)[2]  # type: ignore[no-untyped-call]  # contrib has no annotations here
    return url


def _text(value: bytes) -> str:
    """A header's value as contrib decodes it, except that nothing fails."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return value.decode("unicode_escape")
        except UnicodeDecodeError:
            return value.decode("utf-8", "replace")


def _size(value: bytes) -> int | None:
    """The number in a Content-Length, if it can be one."""
    try:
        size = int(value)
    except ValueError:
        return None
    return size if 0 <= size < 2**63 else None
