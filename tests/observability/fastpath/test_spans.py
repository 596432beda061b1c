"""Spans as bytes: what the official encoder makes of them, with the secrets cut out."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from observability.export import ScrubbingSpanExporter
from observability.fastpath.origin import Origins, request
from observability.fastpath.spans import SpanEncoder
from tests.observability.fastpath.values import ATTRIBUTES, CLEAN_TEXTS


@pytest.fixture(autouse=True, scope="module")
def _silence() -> Iterator[None]:
    """What is logged of lone surrogates cannot be sent between the processes of a test run."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


class Kept(SpanProcessor, SpanExporter):
    """Keeps the spans that end, or that are exported."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep an ended one."""
        self.spans.append(span)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep exported ones."""
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class Counted(IdGenerator):
    """Ids one after the other."""

    def __init__(self) -> None:
        self._last = 0

    def generate_span_id(self) -> int:
        """The next one."""
        self._last += 1
        return self._last

    def generate_trace_id(self) -> int:
        """The next one too."""
        return self.generate_span_id() << 64


TIMES = st.integers(0, (1 << 64) - 1)
CONTEXTS = st.builds(
    SpanContext,
    trace_id=st.integers(1, (1 << 128) - 1),
    span_id=st.integers(1, (1 << 64) - 1),
    is_remote=st.booleans(),
    trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    trace_state=st.sampled_from([TraceState(), TraceState([("a", "1"), ("b", "x")])]),
)
LIMITS = st.builds(
    SpanLimits,
    max_span_attributes=st.sampled_from([0, 2, 128]),
    max_event_attributes=st.sampled_from([1, 128]),
    max_link_attributes=st.sampled_from([1, 128]),
    max_events=st.sampled_from([1, 128]),
    max_links=st.sampled_from([1, 128]),
    max_attribute_length=st.sampled_from([0, 3, 128]),
)


@st.composite
def spans(draw: st.DrawFn) -> list[ReadableSpan]:
    """Ended spans of one provider, with whatever the API takes."""
    kept = Kept()
    provider = TracerProvider(
        resource=Resource(draw(ATTRIBUTES), draw(st.sampled_from(["", "https://opentelemetry.io/schemas/1.40.0"]))),
        span_limits=draw(LIMITS),
        shutdown_on_exit=False,
        id_generator=Counted(),
    )
    provider.add_span_processor(kept)
    for _ in range(draw(st.integers(1, 3))):
        tracer = provider.get_tracer(
            draw(st.sampled_from(["a", "b"])),
            draw(st.sampled_from([None, "1"])),
            draw(st.sampled_from([None, "s"])),
            draw(st.sampled_from([None, {"scope": 1}])),
        )
        parent = draw(st.none() | CONTEXTS)
        span = tracer.start_span(
            draw(CLEAN_TEXTS | st.just("/?token=canary")),
            set_span_in_context(NonRecordingSpan(parent)) if parent else None,
            draw(st.sampled_from(SpanKind)),
            draw(ATTRIBUTES),
            [Link(draw(CONTEXTS), draw(ATTRIBUTES)) for _ in range(draw(st.integers(0, 2)))],
            draw(TIMES),
        )
        span.set_attributes(draw(ATTRIBUTES))
        for _ in range(draw(st.integers(0, 2))):
            span.add_event(draw(CLEAN_TEXTS | st.just("pwd=canary")), draw(ATTRIBUTES), draw(TIMES))
        if draw(st.booleans()):
            span.set_status(draw(st.sampled_from(StatusCode)), draw(st.none() | CLEAN_TEXTS | st.just("pwd=canary")))
        span.end(draw(TIMES))
    return kept.spans


def _decoded(encoded: bytes) -> str:
    """The request as text, which also compares numbers that are none."""
    return str(ExportTraceServiceRequest.FromString(encoded))


ENCODER = SpanEncoder()
"""One for all examples, so that what it remembers is put to the test too."""


@given(spans())
def test_parity(ended: list[ReadableSpan]) -> None:
    """The bytes decode to what the official encoder makes of the same spans once the secrets are cut out of them."""
    scrubbed = Kept()
    ScrubbingSpanExporter(scrubbed).export(ended)
    expected = encode_spans(scrubbed.spans).SerializeToString()
    origins = Origins()
    encoded = request((origins.of(span.resource, span.instrumentation_scope), ENCODER.encode(span)) for span in ended)
    assert _decoded(encoded) == _decoded(expected)


def test_secrets() -> None:
    """Bytes hold no secret, also when the same text comes again."""
    kept = Kept()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(kept)
    encoder = SpanEncoder()
    for _ in range(2):
        with provider.get_tracer("t").start_as_current_span("GET /?token=canary") as span:
            span.set_attribute("url.full", "https://u:canary@host/?token=canary")
            span.set_attribute("password", "canary")
            span.set_attribute("http.request.header.cookie", ("canary",))
            span.record_exception(ValueError("password=canary"))
            span.set_status(StatusCode.ERROR, "Bearer canarycanarycanary")
    assert [b"canary" in encoder.encode(span) for span in kept.spans] == [False, False]


def test_names_with_lone_surrogates() -> None:
    """A lone surrogate, for which the official encoder gives up the whole batch, becomes a question mark."""
    kept = Kept()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(kept)
    with provider.get_tracer("t").start_as_current_span("a\ud800") as span:
        span.add_event("b\udfff")
        span.set_status(StatusCode.ERROR, "c\ud800")
    decoded = Span.FromString(SpanEncoder().encode(kept.spans[0]))
    assert (decoded.name, decoded.events[0].name, decoded.status.message) == ("a?", "b?", "c?")


def test_impossible_time() -> None:
    """A time that OTLP has no form for is an error, for whoever encodes to count."""
    kept = Kept()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(kept)
    provider.get_tracer("t").start_span("a", start_time=-1).end()
    with pytest.raises(struct.error):
        SpanEncoder().encode(kept.spans[0])
