"""The way of an event as telemetry, by OpenTelemetry's conventions for messaging.

    orders SERVER POST /orders
      orders PRODUCER create order.placed           in the transaction; its context is the event's own
        orders INTERNAL wait order.placed           from there, or from the last attempt, to this one
        orders CLIENT send order.placed             one for each attempt
        shipping CONSUMER process order.placed      one for each delivery, linked to `create`

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, time_ns

from opentelemetry import trace
from opentelemetry.semconv._incubating.attributes.messaging_attributes import (
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)
from opentelemetry.semconv._incubating.metrics.messaging_metrics import (
    create_messaging_client_consumed_messages,
    create_messaging_client_operation_duration,
    create_messaging_client_sent_messages,
    create_messaging_process_duration,
)
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from observability.events.event import Event, trace_context
from observability.providers import Telemetry
from observability.telemetry import EVENT_ATTEMPT


class EventTelemetry:
    """Makes the spans and metrics of events for one service."""

    def __init__(self, telemetry: Telemetry) -> None:
        scope = "observability.events"
        self._tracer = telemetry.tracer_provider.get_tracer(scope)
        meter = telemetry.meter_provider.get_meter(scope)
        self._sent = create_messaging_client_sent_messages(meter)
        self._send_duration = create_messaging_client_operation_duration(meter)
        self._consumed = create_messaging_client_consumed_messages(meter)
        self._process_duration = create_messaging_process_duration(meter)

    def now(self) -> int:
        """Nanoseconds since the epoch, by the clock of the spans."""
        return time_ns()

    @contextmanager
    def creating(self, event: Event) -> Iterator[dict[str, str]]:
        """The span in which an event comes to be; gives its `traceparent` and `tracestate`."""
        attributes = {**_operation("create", event), MESSAGING_MESSAGE_BODY_SIZE: len(event.data)}
        with self._tracer.start_as_current_span(f"create {event.type}", kind=SpanKind.PRODUCER, attributes=attributes):
            yield trace_context()

    def waited(self, event: Event, since: int) -> None:
        """The time from when the event was added, or given back, until now."""
        self._tracer.start_span(f"wait {event.type}", event.context, start_time=since).end()

    @contextmanager
    def sending(self, event: Event, system: str, attempt: int) -> Iterator[None]:
        """One attempt to deliver an event; what it raises is the outcome."""
        attributes = {MESSAGING_SYSTEM: system, **_operation("send", event)}
        if attempt > 1:
            attributes[EVENT_ATTEMPT] = attempt
        start = perf_counter()
        labels = _labels(system, "send", event)
        with self._tracer.start_as_current_span(
            f"send {event.type}",
            event.context,
            SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, labels, error)
                raise
            finally:
                self._sent.add(1, labels)
                self._send_duration.record(perf_counter() - start, labels)

    @contextmanager
    def processing(self, event: Event, system: str, consumer: str) -> Iterator[None]:
        """One delivery of an event to a consumer of it; what it raises is the outcome.

        The span is a child of the one in which the event came to be, if that is known, and the root of a trace of its
        own if it is not, whatever has delivered it.
        """
        created = trace.get_current_span(event.context).get_span_context()
        attributes = {
            MESSAGING_SYSTEM: system,
            MESSAGING_CONSUMER_GROUP_NAME: consumer,
            **_operation("process", event),
        }
        start = perf_counter()
        labels = _labels(system, "process", event) | {MESSAGING_CONSUMER_GROUP_NAME: consumer}
        with self._tracer.start_as_current_span(
            f"process {event.type}",
            event.context,
            SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(created)] if created.is_valid else (),
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, labels, error)
                raise
            finally:
                self._consumed.add(1, labels)
                self._process_duration.record(perf_counter() - start, labels)


def _operation(name: str, event: Event) -> dict[str, str | int]:
    return {
        MESSAGING_OPERATION_NAME: name,
        MESSAGING_OPERATION_TYPE: name,
        MESSAGING_DESTINATION_NAME: event.type,
        MESSAGING_MESSAGE_ID: event.id,
    }


def _labels(system: str, name: str, event: Event) -> dict[str, str]:
    return {MESSAGING_SYSTEM: system, MESSAGING_OPERATION_NAME: name, MESSAGING_DESTINATION_NAME: event.type}


def _failed(span: Span, labels: dict[str, str], error: BaseException) -> None:
    labels[ERROR_TYPE] = type(error).__name__
    span.set_attribute(ERROR_TYPE, type(error).__name__)
    span.set_status(StatusCode.ERROR, str(error))
