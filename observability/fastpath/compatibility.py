"""Whether the interpreter and the SDK are what lean spans rely on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

from observability.fastpath.span import LeanSpan
from observability.fastpath.spans import SpanEncoder
from observability.fastpath.tracer import LeanTracerProvider

_logger = logging.getLogger(__name__)


def lean_spans_fit() -> bool:
    """Whether lean spans can stand for those of the SDK.

    They do parts of its work with its own private parts. Another release of it may have others, so spans are made both
    ways once, and have to tell the same. What is found is logged if it is no.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        _logger.warning("there is no GIL, which lean spans rely on: spans are the SDK's own, which cost more")
        return False
    try:
        if _told_by(_lean_provider) == _told_by(_sdk_provider):
            return True
        reason = "they do not tell the same"
    except Exception as error:  # noqa: BLE001 - whatever the SDK's private parts have become
        reason = f"{type(error).__name__}: {error}"
    _logger.warning("lean spans do not fit this OpenTelemetry SDK, whose own cost more: %s", reason)
    return False


class _Ids(IdGenerator):
    """The same for all who ask."""

    def __init__(self) -> None:
        self._last = 0

    def generate_span_id(self) -> int:
        self._last += 1
        return self._last

    def generate_trace_id(self) -> int:
        return self.generate_span_id()


class _Told(SpanProcessor):
    """Writes down what it is shown."""

    def __init__(self) -> None:
        self.words: list[object] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.words += [
            span.to_json(),
            span.dropped_attributes,
            span.dropped_events,
            span.dropped_links,
            span.resource,
            span.instrumentation_scope,
            SpanEncoder().encode(span),
        ]


def _lean_provider(resource: Resource, limits: SpanLimits) -> TracerProvider:
    return LeanTracerProvider(
        resource=resource,
        meter_provider=NoOpMeterProvider(),
        sampler=DEFAULT_ON,
        id_generator=_Ids(),
        span_limits=limits,
    )


def _sdk_provider(resource: Resource, limits: SpanLimits) -> TracerProvider:
    return TracerProvider(
        resource=resource,
        shutdown_on_exit=False,
        meter_provider=NoOpMeterProvider(),
        sampler=DEFAULT_ON,
        id_generator=_Ids(),
        span_limits=limits,
    )


def _told_by(make: Callable[[Resource, SpanLimits], TracerProvider]) -> list[object]:
    limits = SpanLimits(max_span_attributes=4, max_events=1, max_links=1, max_attribute_length=8)
    provider = make(Resource({"a": 1}), limits)
    told = _Told()
    provider.add_span_processor(told)
    tracer = provider.get_tracer("t", "1", "s", {"b": 2})
    elsewhere = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span(
        "a",
        kind=SpanKind.SERVER,
        attributes={"c": 1, "d": "e"},
        links=[Link(elsewhere)],
        start_time=1,
        end_on_exit=False,
    ) as outer:
        inner = tracer.start_span("f", start_time=2, attributes={"g": [1, 2]})
        inner.set_attributes({"h": 1.5, "i": True})
        inner.set_attribute("h", "short")
        inner.add_event("j", {"k": 1}, 3)
        inner.add_event("l", timestamp=4)
        inner.add_link(elsewhere, {"m": 1})
        inner.set_status(StatusCode.ERROR, "n")
        inner.update_name("o")
        inner.end(5)
    outer.end(6)
    for span in (outer, inner):
        told.words += [isinstance(span, Span), span.is_recording(), span.get_span_context()]
        if isinstance(span, LeanSpan) and SpanEncoder().encode_lean(span) not in told.words:
            told.words.append("what is encoded without a copy is something else")
    return told.words
