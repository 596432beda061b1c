"""The chain's decisions as telemetry.

Events on the caller's span, spans of what was refused, metrics, and a log line for each change of a breaker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import httpx
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from observability.fastpath.instruments import PreparedInstrument
from observability.resilience.call import Call
from observability.resilience.decisions import (
    Attempted,
    BreakerChanged,
    Decision,
    Hedged,
    Hedging,
    NotRetrying,
    Refusing,
    Retrying,
    Waited,
)
from observability.telemetry import (
    ATTEMPT,
    ATTEMPTS,
    BREAKER_CHANGED,
    BREAKER_CHANGES,
    BREAKER_REASON,
    BREAKER_STATE,
    BREAKER_STATES,
    BULKHEAD_CALLS,
    BULKHEAD_WAIT,
    BULKHEAD_WAITED,
    HEDGE_WON,
    HEDGES,
    HEDGING,
    NO_RETRY_BECAUSE,
    NOT_RETRYING,
    PEER,
    REFUSALS,
    RETRIES,
    RETRY_DELAY,
    RETRY_REASON,
    RETRYING,
    WAIT,
)

logger = logging.getLogger(__name__)


class ChainTelemetry:
    """Tells what the chain of one dependency decides.

    Args:
        peer: The dependency's name.
        tracer: Makes the spans of attempts that never left this process.
        meter: Makes the instruments.
        fast: Whether the fast path may be taken.
    """

    def __init__(self, peer: str, tracer: Tracer, meter: Meter, *, fast: bool = True) -> None:
        self._peer = peer
        self._tracer = tracer
        attempts = meter.create_counter(*ATTEMPTS)
        # The only one that each call adds to.
        self._attempts = PreparedInstrument.of(attempts) if fast else PreparedInstrument(attempts, prepare=False)
        self._retries = meter.create_counter(*RETRIES)
        self._refusals = meter.create_counter(*REFUSALS)
        self._changes = meter.create_counter(*BREAKER_CHANGES)
        self._hedges = meter.create_counter(*HEDGES)
        self._wait = meter.create_histogram(*BULKHEAD_WAIT)
        self._states = meter.create_up_down_counter(*BREAKER_STATES)
        self._states.add(1, {PEER: peer, BREAKER_STATE: "closed"})
        self._meter = meter

    def observe_calls(self, under_way: Callable[[], int]) -> None:
        """Report how many calls are under way, whenever metrics are collected."""

        def observe(_options: CallbackOptions) -> list[Observation]:
            return [Observation(under_way(), {PEER: self._peer})]

        self._meter.create_observable_up_down_counter(
            BULKHEAD_CALLS.name, [observe], BULKHEAD_CALLS.unit, BULKHEAD_CALLS.description
        )

    def tell(self, decision: Decision) -> None:
        """Tell one decision; the current span is the caller's."""
        match decision:
            case Attempted(error_type):
                self._attempts.record(
                    1,
                    (self._peer, error_type),
                    lambda: {PEER: self._peer} | ({ERROR_TYPE: error_type} if error_type else {}),
                    trace.get_current_span().get_span_context(),
                )
            case Retrying(attempt, reason, delay_s):
                self._retries.add(1, {PEER: self._peer, RETRY_REASON: reason})
                trace.get_current_span().add_event(
                    RETRYING,
                    {PEER: self._peer, ATTEMPT: attempt, RETRY_REASON: reason, RETRY_DELAY: delay_s},
                )
            case NotRetrying(attempt, reason, because):
                trace.get_current_span().add_event(
                    NOT_RETRYING,
                    {
                        PEER: self._peer,
                        ATTEMPT: attempt,
                        RETRY_REASON: reason,
                        NO_RETRY_BECAUSE: because,
                    },
                )
            case Hedging(attempt, delay_s):
                trace.get_current_span().add_event(HEDGING, {PEER: self._peer, ATTEMPT: attempt, RETRY_DELAY: delay_s})
            case Hedged(won):
                self._hedges.add(1, {PEER: self._peer, HEDGE_WON: won})
            case Waited(seconds):
                self._wait.record(seconds, {PEER: self._peer})
                trace.get_current_span().add_event(BULKHEAD_WAITED, {PEER: self._peer, WAIT: seconds})
            case Refusing(request, error):
                self._refused(request, type(error).__qualname__, str(error))
            case BreakerChanged(before, after, reason):
                self._changes.add(1, {PEER: self._peer, BREAKER_STATE: after})
                self._states.add(-1, {PEER: self._peer, BREAKER_STATE: before})
                self._states.add(1, {PEER: self._peer, BREAKER_STATE: after})
                trace.get_current_span().add_event(
                    BREAKER_CHANGED, {PEER: self._peer, BREAKER_STATE: after, BREAKER_REASON: reason}
                )
                level = logging.WARNING if after == "open" else logging.INFO
                logger.log(level, "breaker of %s: %s -> %s, %s", self._peer, before, after, reason)

    def _refused(self, request: httpx.Request, error: str, message: str) -> None:
        """A short span in the place of the attempt's, so that a waterfall shows what was not done."""
        self._refusals.add(1, {PEER: self._peer, ERROR_TYPE: error})
        attributes: dict[str, str | int] = {
            PEER: self._peer,
            HTTP_REQUEST_METHOD: request.method,
            SERVER_ADDRESS: request.url.host,
            ERROR_TYPE: error,
        }
        if request.url.port is not None:
            attributes[SERVER_PORT] = request.url.port
        span = self._tracer.start_span(request.method, kind=SpanKind.CLIENT, attributes=attributes)
        span.set_status(StatusCode.ERROR, message)
        span.end()


def attempt_attributes(peer: str, call: Call) -> dict[str, str | int]:
    """What the span of an attempt says of it: which one it is, and what let it through."""
    attributes: dict[str, str | int] = {PEER: peer}
    if call.attempt > 1:
        attributes[HTTP_REQUEST_RESEND_COUNT] = call.attempt - 1
    if call.breaker is not None and call.breaker != "closed":
        attributes[BREAKER_STATE] = call.breaker
    return attributes
