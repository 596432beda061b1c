"""An event: a CloudEvent 1.0 whose data is a JSON document, with the trace context in which it came to be."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

MAX_ATTRIBUTE = 255
"""Longest type, source, subject or id of an event, in characters."""

MAX_TRACESTATE = 512
"""Longest tracestate that goes with an event, in characters; a longer one is left out. W3C asks for no more."""

_CONTENT_TYPE = "application/json"
_JSON = re.compile(r"application/(json|[^;/]+\+json)\s*(;|$)", re.IGNORECASE)
_W3C = TraceContextTextMapPropagator()
_TRACE = ("traceparent", "tracestate")


class NotAnEventError(ValueError):
    """This is no event that can be delivered and applied once; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. Its `source` and `id` tell a repeated delivery from a new event.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and its distributed-tracing extension.

    Attributes:
        type: What happened, such as `order.placed`.
        source: Who tells it, as a URI reference: `/orders`.
        subject: What it happened to, such as an order's id. Events of one subject are delivered in their order.
        data: A JSON document in UTF-8.
        id: Unique within the source.
        time: When it happened, with its time zone.
        traceparent, tracestate: The span in which it came to be (W3C Trace Context); set when it is stored.

    Raises:
        NotAnEventError: An attribute has no characters, more than 255, or some that cannot be printed; or the time has
            no zone. Found here, it is a fault of whoever tells the event, and not one of its delivery.
    """

    type: str
    source: str
    subject: str
    data: bytes
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    traceparent: str | None = None
    tracestate: str | None = None

    def __post_init__(self) -> None:
        for name in ("type", "source", "subject", "id"):
            text = getattr(self, name)
            if not 1 <= len(text) <= MAX_ATTRIBUTE or not text.isprintable():
                raise NotAnEventError(f"The {name} of an event has to have 1 to {MAX_ATTRIBUTE} printable characters.")
        if self.time.tzinfo is None:
            raise NotAnEventError("The time of an event has to have a time zone.")

    @property
    def context(self) -> Context:
        """The context in which it came to be; an empty one, whatever the current one is, if that is not known."""
        return _extracted(self.traceparent, self.tracestate)


def trace_context() -> dict[str, str]:
    """The current span as an event's `traceparent` and `tracestate`; empty if there is none."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().get_span_context().is_valid:
        _W3C.inject(carrier)
    if len(carrier.get("tracestate", "")) > MAX_TRACESTATE:
        del carrier["tracestate"]
    return carrier


@contextmanager
def in_trace(traceparent: str | None, tracestate: str | None = None) -> Iterator[None]:
    """Have a block go on with the trace of what `trace_context` has told; in none, if that is not known."""
    token = context.attach(_extracted(traceparent, tracestate))
    try:
        yield
    finally:
        context.detach(token)


def _extracted(traceparent: str | None, tracestate: str | None) -> Context:
    carrier = dict(zip(_TRACE, (traceparent, tracestate), strict=True))
    return _W3C.extract({name: value for name, value in carrier.items() if value is not None}, Context())


def to_message(event: Event) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an event in binary mode, as for HTTP and NATS."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": _CONTENT_TYPE,
    }
    attributes |= {name: value for name in _TRACE if (value := getattr(event, name)) is not None}
    message = to_binary(CloudEvent(attributes, event.data), _FORMAT)
    return message.headers, message.body


def from_message(headers: Mapping[str, str], body: bytes) -> Event:
    """The event in a message in binary mode; whether its data is JSON is for whoever reads them to find out.

    Raises:
        NotAnEventError: It holds none, or one that this kit does not take: without JSON as its content type, or without
            a subject.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    for name in ("ce-specversion", "ce-id"):  # in their place the library would put something of its own
        if name not in headers:
            raise NotAnEventError(f"There is no {name}; events are taken as CloudEvents 1.0 in binary mode.")
    content_type = headers.get("content-type", "")
    if not _JSON.match(content_type):
        raise NotAnEventError("The data of an event has to be JSON, and its content-type has to say so.")
    try:
        found = from_binary(HTTPMessage(headers, body), _FORMAT, CloudEvent)
    except CloudEventValidationError as error:
        raise NotAnEventError(f"This is no CloudEvent 1.0; wrong are: {', '.join(sorted(error.errors))}.") from error
    except (ValueError, OverflowError) as error:
        raise NotAnEventError("This is no CloudEvent 1.0: ce-time is no time of RFC 3339.") from error
    return Event(
        type=found.get_type(),
        source=found.get_source(),
        subject=found.get_subject() or "",
        id=found.get_id(),
        data=body,
        time=found.get_time() or datetime.now(UTC),
        traceparent=found.get_extension("traceparent"),
        tracestate=found.get_extension("tracestate"),
    )


class _BodyAsItIs(JSONFormat):
    """Leaves the data to whoever reads them by a schema: here they would be parsed, and nonsense taken for a text."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:  # noqa: ARG002 - the library's signature
        return body


_FORMAT = _BodyAsItIs()
