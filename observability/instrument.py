"""What makes an application observed: the official instrumentors, and the order in which a request meets our parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.semconv.metrics import MetricInstruments
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from observability.deadline import REQUEST_TIMEOUT_S, RequestDeadline
from observability.draining import LeaveWhileDraining
from observability.fastpath.client import observe_transport
from observability.fastpath.errors import AnsweredErrors
from observability.fastpath.server import ServerSpan, covers
from observability.faults.endpoint import FaultEndpoint
from observability.faults.fault import Faults
from observability.faults.layer import FaultLayer
from observability.health import Health, HealthEndpoints
from observability.inbound import InboundContext, InboundTrust, link_caller
from observability.limits import MAX_BODY_BYTES, MAX_REQUESTS, ConcurrencyLimit, RequestLimits, limit_bodies_only
from observability.problems import CancelledRequests, install_problem_handlers
from observability.providers import Telemetry
from observability.requests import RequestLog, mark_logged
from observability.runtime import observe_runtime

if TYPE_CHECKING:
    from observability.events.endpoint import EventIntake

STOP_TIMEOUT_S = 10.0
"""How long the application's own lifespan may take to end, in seconds; then the telemetry is flushed without it."""

logger = logging.getLogger(__name__)


def observe(
    app: FastAPI,
    telemetry: Telemetry,
    *,
    inbound_context: InboundContext = "link",
    health: Health | None = None,
    max_requests: int = MAX_REQUESTS,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
    faults: bool = False,
    events: EventIntake | None = None,
) -> None:
    """Make a FastAPI application observed. Call it once, after the application is made and before it serves.

    From then on each request has one server span, the stable HTTP server metrics and one log line; errors are RFC 9457
    problems; bodies and headers are bounded (FastAPI's `max_body_size`, of the application or a route, moves the bound
    of 1 MiB); `/livez`, `/readyz` and `/startupz` answer probes; and the telemetry is closed after the application's
    own lifespan has ended.

    Args:
        app: The application, which must not have started.
        telemetry: Its providers, closed at the end of its lifespan.
        inbound_context: Whether a caller's trace is continued, linked to, or ignored.
        health: The state behind the probes, also found as `app.state.health`; a new one if none is given.
        max_requests: Requests that are served at once; one more is answered 503. Probes are not counted.
        request_timeout_s: Seconds until a request's answer has to begin; less, if `inbound_context` is `continue` and
            the caller says that it waits less long (`x-envoy-expected-rq-timeout-ms`). Then it is answered 504.
        faults: Whether faults may be asked for, by whoever reaches `/faults`; only where `inbound_context` is
            `continue`.
        events: Who takes events that are posted to `/events`; by default nobody does.

    Raises:
        ValueError: `inbound_context` is none of the three words, or `faults` are wanted at a public edge.
        RuntimeError: The application has started already, or is instrumented already.
    """
    if faults and inbound_context != "continue":
        raise ValueError("faults are for services behind the public edge, whose inbound_context is 'continue'")
    if app.middleware_stack is not None:
        raise RuntimeError("observe() comes before the application's first request or lifespan")
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        raise RuntimeError("this application is instrumented already: one observe() for each application")
    health = health if health is not None else Health()
    app.state.health = health
    if not (threads := ThreadingInstrumentor()).is_instrumented_by_opentelemetry:
        threads.instrument()  # threads and executors go on with the trace; asyncio's tasks do so by themselves
    if app.max_body_size is None:
        app.max_body_size = MAX_BODY_BYTES
    _switch_off_native_telemetry(app)
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        server_request_hook=link_caller,
        exclude_spans=["receive", "send"],
    )
    _wrap_middleware_stack(
        app,
        health,
        inbound_context,
        max_requests,
        request_timeout_s,
        fast=telemetry.fast,
        faults=Faults() if faults else None,
        events=events,
    )
    _wrap_lifespan(app, telemetry, health)


def instrument_client(
    client: httpx.AsyncClient, telemetry: Telemetry, *, business_answers: Collection[int] = ()
) -> None:
    """Give each request that a client sends a client span, the client metrics, and the trace context in its headers.

    Args:
        client: The client, which goes to one dependency.
        telemetry: The providers of the service that calls.
        business_answers: Statuses of 4xx that the dependency answers by its contract, such as 404 for what it does not
            have. They are no errors of the call: its span ends with status OK, though the conventions make each 4xx an
            error of a client's span.
    """
    if getattr(client, "_is_instrumented_by_opentelemetry", False):  # contrib's mark
        logger.warning("this client is instrumented already")
        return

    def observed(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return observe_transport(
            transport,
            telemetry.tracer_provider,
            telemetry.meter_provider,
            fast=telemetry.fast,
            business_answers=business_answers,
        )

    # httpx has no public way to its transports; contrib's instrument_client goes the same one.
    client._transport = observed(client._transport)  # noqa: SLF001
    for pattern, transport in client._mounts.items():  # noqa: SLF001
        if transport is not None:  # of hosts that no proxy is for
            client._mounts[pattern] = observed(transport)  # noqa: SLF001
    client._is_instrumented_by_opentelemetry = True  # type: ignore[attr-defined]  # noqa: SLF001


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
    engine.sync_engine.hide_parameters = True  # an exception's text would quote them in spans and logs
    EngineTracer(tracer, engine.sync_engine, usage)  # type: ignore[no-untyped-call]  # contrib has no annotations here


def _wrap_middleware_stack(
    app: FastAPI,
    health: Health,
    inbound_context: InboundContext,
    max_requests: int,
    request_timeout_s: float,
    *,
    fast: bool,
    faults: Faults | None,
    events: EventIntake | None,
) -> None:
    """Write the order in which a request meets the kit's parts; the application's own middleware comes after them."""
    build_instrumented = app.build_middleware_stack
    believe_caller = inbound_context == "continue"
    InboundTrust(app, inbound_context)  # a wrong word fails here, not at the first request

    def build() -> ASGIApp:
        install_problem_handlers(app)  # when the application starts, and everything has been mounted
        stack = build_instrumented()
        span = _server_span_middleware(stack)
        covered = fast and covers(span)
        if covered:
            span.app = AnsweredErrors(span.app)  # two of contrib's layers, whose place it takes
        # Inside the server span, from the inside out:
        limit_bodies_only(span.app)  # most requests have none
        span.app = RequestLimits(span.app)  # around whatever reads the body
        span.app = RequestDeadline(span.app, timeout_s=request_timeout_s, believe_caller=believe_caller)  # all the work
        span.app = ConcurrencyLimit(span.app, max_requests=max_requests)  # before any work
        if faults is not None:
            span.app = FaultLayer(span.app, faults)  # around all that could mend what it breaks
        span.app = CancelledRequests(span.app)  # around whatever is cut off
        span.app = RequestLog(span.app)  # around every answer, the limits' and the error handlers' too
        # Outside the server span, from the inside out:
        stack = InboundTrust(stack, inbound_context)  # before the span reads its parent from the headers
        if covered:
            stack = ServerSpan(stack, span, app, inbound_context)  # spares requests all that is from here to the span
        if faults is not None:
            stack = FaultEndpoint(stack, faults)  # before the span, which is for requests
        if events is not None:
            from observability.events.endpoint import EventEndpoint  # noqa: PLC0415 - only who takes events pays

            stack = EventEndpoint(stack, events)  # a delivery has a span of its own kind, in the event's trace
        stack = HealthEndpoints(stack, health)  # probes are no requests
        return LeaveWhileDraining(stack, health)  # outermost: every answer may be the last one on its connection

    app.build_middleware_stack = build  # type: ignore[method-assign]  # contrib replaces it in the same way


def _switch_off_native_telemetry(app: FastAPI) -> None:
    """Spare each request FastAPI's search for contrib's middleware, and have no exporters added to our providers.

    There is no public way once an application is made. Without it FastAPI's telemetry stands aside by itself; that of
    applications that are mounted does so by the requests' scopes (`observability.inbound`).
    """
    config = getattr(app, "_telemetry", None)
    if isinstance(config, dict):
        config.update(tracing=False, metrics=False, logs=False)


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
            async with observe_runtime(telemetry), AsyncExitStack() as stack:
                state = await stack.enter_async_context(own_lifespan(app))
                health.start()
                yield state
                health.drain()
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await stack.aclose()
        except Exception as error:
            # Here and not by the server, which would tell it after the telemetry was closed.
            logger.exception("the application failed to %s", "stop" if health.draining else "start")
            mark_logged(error)
            raise
        finally:
            # Last, so that what the application says while it stops is exported; in a thread, since it blocks.
            if not await run_in_threadpool(telemetry.close):
                logger.warning("not all telemetry could be sent in time; what was left is lost")

    app.router.lifespan_context = lifespan  # type: ignore[assignment]  # Starlette types state as None or a mapping
