"""Cutting secrets out of spans and log records as they leave."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, StatusCode

from observability.export import ScrubbingSpanExporter
from observability.providers import Telemetry
from observability.telemetry import SCRUBBED


def _ended(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_scrubbed_span() -> None:
    """What leaves the process has no secrets, and names the paths of what was cut."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry.build("s", span_processors=[SimpleSpanProcessor(ScrubbingSpanExporter(exporter))])
    link = Link(SpanContext(1, 2, is_remote=True), {"url.full": "http://u:canary@host/"})
    tracer = telemetry.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("GET", attributes={"http.request.method": "GET"}, links=[link]) as span:
        span.set_attribute("url.full", "https://host/?token=canary")
        span.record_exception(ValueError("password=canary"))
        span.set_status(StatusCode.ERROR, "Bearer canarycanarycanary")
    ended = _ended(exporter)
    assert "canary" not in ended.to_json()
    assert ended.attributes is not None
    assert ended.attributes["http.request.method"] == "GET"
    cut = ended.attributes[SCRUBBED]
    assert isinstance(cut, tuple)
    assert {"attributes.url.full", "status.description", "links[0].attributes.url.full"} <= set(map(str, cut))
    assert any(str(path).startswith("events[0].attributes.exception.message") for path in cut)


def test_clean_span_is_passed_on() -> None:
    """A span without secrets is exported as it is, at no cost of a copy."""
    exported: list[ReadableSpan] = []

    class Keep(SpanExporter):
        def export(self, spans: list[ReadableSpan]) -> SpanExportResult:  # type: ignore[override]
            exported.extend(spans)
            return SpanExportResult.SUCCESS

    span = ReadableSpan(
        "GET /orders/{order_id}", attributes={"http.route": "/orders/{order_id}"}, resource=Resource({})
    )
    ScrubbingSpanExporter(Keep()).export([span])
    assert exported[0] is span


def test_dropped_counts_stay() -> None:
    """How much the SDK's limits had dropped is still known after something else was cut."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry.build("s", span_processors=[SimpleSpanProcessor(ScrubbingSpanExporter(exporter))])
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work") as span:
        for number in range(200):
            span.add_event("password=canary" if number == 199 else "event")
            span.set_attribute(f"a{number}", number)
    ended = _ended(exporter)
    assert "canary" not in ended.to_json()
    assert (ended.dropped_events, ended.dropped_attributes) == (72, 72)
