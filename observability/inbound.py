"""Which trace context of a caller is believed.

Between one's own services the caller's trace is continued. At a public edge a stranger who sends `traceparent` would
otherwise choose trace ids, force or forbid sampling, and bring `baggage` that travels on to every service behind
(W3C Trace Context, sections 3.4 and 7.2). There a new trace starts, sampled by our rules, with a link to the caller's
span.
"""

from __future__ import annotations

from typing import Literal, get_args

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

InboundContext = Literal["link", "continue", "ignore"]
"""`continue` the caller's trace, start a new one with a `link` to the caller's span, or `ignore` the caller."""

NATIVE_TELEMETRY = "fastapi.telemetry"
"""Where FastAPI looks whether a request is traced by an application around it; None says so, and keeps it off."""

_LINK = "clearspan.inbound.link"
_W3C = TraceContextTextMapPropagator()


class InboundTrust:
    """ASGI middleware before the server span: takes a stranger's trace headers away and remembers what to link to."""

    def __init__(self, app: ASGIApp, inbound_context: InboundContext) -> None:
        if inbound_context not in get_args(InboundContext):
            raise ValueError(f"inbound_context={inbound_context!r} is none of {', '.join(get_args(InboundContext))}")
        self.app = app
        self._inbound_context = inbound_context
        self._fields = untrusted_fields()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        # An application that is mounted would make a server span of its own, in a trace of its own.
        scope[NATIVE_TELEMETRY] = None
        if self._inbound_context != "continue":
            headers: list[tuple[bytes, bytes]] = scope["headers"]
            claimed = [value for name, value in headers if name == b"traceparent"]
            scope = {**scope, "headers": [header for header in headers if header[0] not in self._fields]}
            if self._inbound_context == "link" and len(claimed) == 1:
                scope[_LINK] = claimed_context(claimed[0])
        await self.app(scope, receive, send)


def link_caller(span: Span, scope: Scope) -> None:
    """Link a server span to the caller's span that was not believed, if there was one."""
    context: SpanContext | None = scope.get(_LINK)
    if context is not None:
        span.add_link(context)


def untrusted_fields() -> frozenset[bytes]:
    """The headers that are a stranger's to send and ours to take away.

    Whatever the process propagates by (`OTEL_PROPAGATORS`), and what W3C defines even if it does not.
    """
    fields = {name.lower().encode() for name in propagate.get_global_textmap().fields}
    return frozenset(fields | {b"traceparent", b"tracestate", b"baggage"})


def claimed_context(traceparent: bytes) -> SpanContext | None:
    """The span that a `traceparent` names; None where it names none."""
    context = trace.get_current_span(_W3C.extract({"traceparent": traceparent.decode("latin-1")})).get_span_context()
    return context if context.is_valid else None
