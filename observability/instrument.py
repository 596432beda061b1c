"""What makes an application observed: the official instrumentors, and the order in which a request meets our parts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor, RequestInfo, ResponseInfo
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.semconv.metrics import MetricInstruments
from opentelemetry.trace import Span, StatusCode
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from observability.health import Health, HealthEndpoints
from observability.inbound import InboundContext, InboundTrust, link_caller
from observability.limits import RequestLimits
from observability.problems import CancelledRequests, install_problem_handlers
from observability.providers import Telemetry
from observability.requests import RequestLog
from observability.runtime import observe_runtime

logger = logging.getLogger(__name__)

BUSINESS_ANSWERS = frozenset({402, 404, 409})
"""Statuses that a dependency answers by its contract: no error of the call, whose span ends with status OK."""


def observe(
    app: FastAPI,
    telemetry: Telemetry,
    *,
    inbound_context: InboundContext = "link",
    health: Health | None = None,
) -> None:
    """Make a FastAPI application observed. Call it once, after the application is made and before it serves.

    From then on each request has one server span, the stable HTTP server metrics and one log line; errors are RFC 9457
    problems; `/livez`, `/readyz` and `/startupz` answer probes; and the telemetry is closed after the application's
    own lifespan has ended.

    Args:
        app: The application, which must not have started.
        telemetry: Its providers, closed at the end of its lifespan.
        inbound_context: Whether a caller's trace is continued, linked to, or ignored.
        health: The state behind the probes, also found as `app.state.health`; a new one if none is given.

    Raises:
        ValueError: `inbound_context` is none of the three words.
        RuntimeError: The application has started already, or is instrumented already.
    """
    if app.middleware_stack is not None:
        raise RuntimeError("observe() comes before the application's first request or lifespan")
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        raise RuntimeError("this application is instrumented already: one observe() for each application")
    health = health if health is not None else Health()
    app.state.health = health
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        server_request_hook=link_caller,
        exclude_spans=["receive", "send"],
    )
    _wrap_middleware_stack(app, health, inbound_context)
    _wrap_lifespan(app, telemetry, health)


def instrument_client(client: httpx.AsyncClient, telemetry: Telemetry) -> None:
    """Give each request that a client sends a client span, the client metrics, and the trace context in its headers."""
    HTTPXClientInstrumentor.instrument_client(
        client,
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        response_hook=_accept_business_answer,
    )


def instrument_engine(engine: AsyncEngine, telemetry: Telemetry) -> None:
    """Give each statement of a SQLAlchemy engine a client span, and count its connections in use.

    The instrumentor's own entry point patches SQLAlchemy for the whole process with one provider; the tracer below it
    takes one engine and one provider.
    """
    tracer = telemetry.tracer_provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
    meter = telemetry.meter_provider.get_meter("opentelemetry.instrumentation.sqlalchemy")
    usage = meter.create_up_down_counter(
        MetricInstruments.DB_CLIENT_CONNECTIONS_USAGE,
        "connections",
        "The number of connections that are currently in state described by the state attribute.",
    )
    EngineTracer(tracer, engine.sync_engine, usage)  # type: ignore[no-untyped-call]  # contrib has no annotations here


def _wrap_middleware_stack(app: FastAPI, health: Health, inbound_context: InboundContext) -> None:
    """Write the order in which a request meets the kit's parts; the application's own middleware comes after them."""
    build_instrumented = app.build_middleware_stack
    InboundTrust(app, inbound_context)  # a wrong word fails here, not at the first request

    def build() -> ASGIApp:
        install_problem_handlers(app)  # when the application starts, and everything has been mounted
        stack = build_instrumented()
        span = _server_span_middleware(stack)
        # Inside the server span, from the inside out:
        span.app = RequestLimits(span.app)  # before anything reads the body
        span.app = CancelledRequests(span.app)  # around whatever is cut off
        span.app = RequestLog(span.app)  # around every answer, the limits' and the error handlers' too
        # Outside the server span, from the inside out:
        stack = InboundTrust(stack, inbound_context)  # before the span reads its parent from the headers
        return HealthEndpoints(stack, health)  # outermost: probes are no requests

    app.build_middleware_stack = build  # type: ignore[method-assign]  # contrib replaces it in the same way


def _server_span_middleware(stack: ASGIApp) -> OpenTelemetryMiddleware:
    layer: Any = stack
    while not isinstance(layer, OpenTelemetryMiddleware):
        layer = getattr(layer, "app", None)
        if layer is None:
            raise RuntimeError("opentelemetry-instrumentation-fastapi did not instrument this application")
    return layer


def _wrap_lifespan(app: FastAPI, telemetry: Telemetry, health: Health) -> None:
    own_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any] | None]:
        try:
            async with observe_runtime(telemetry), own_lifespan(app) as state:
                health.start()
                yield state
                health.drain()
        finally:
            # Last, so that what the application says while it stops is exported; in a thread, since it blocks.
            if not await run_in_threadpool(telemetry.close):
                logger.warning("not all telemetry could be sent in time; what was left is lost")

    app.router.lifespan_context = lifespan  # type: ignore[assignment]  # Starlette types state as None or a mapping


async def _accept_business_answer(span: Span, _request: RequestInfo, response: ResponseInfo) -> None:
    if response.status_code in BUSINESS_ANSWERS:
        # The conventions call each 4xx an error of the client's span; OK is the status that says "as designed".
        span.set_status(StatusCode.OK)
