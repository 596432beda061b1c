"""Notices of spans that still run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context

from observability import unfinished
from observability.export import ScrubbingLogExporter
from observability.scrub import REDACTED
from observability.telemetry import RUNNING, RUNNING_KIND, RUNNING_NAME, RUNNING_PARENT
from observability.unfinished import RENEW_ROUNDS, UnfinishedSpans

NEVER_S = 3600.0


class Watched:
    """A tracer whose spans are watched; its rounds come when a test asks for one."""

    def __init__(self, exporter: LogRecordExporter | None = None, provider: TracerProvider | None = None) -> None:
        self.exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.processor = UnfinishedSpans(exporter or self.exporter, round_s=NEVER_S)
        self.provider = provider or TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer: Tracer = self.provider.get_tracer("shop", "1.2")

    def round(self) -> None:
        self.processor._tell(self.processor._take())

    def told(self) -> list[object]:
        """The names in the notices since the last call."""
        found: list[object] = [
            (notice.log_record.attributes or {})[RUNNING_NAME] for notice in self.exporter.get_finished_logs()
        ]
        self.exporter.clear()
        return found


def test_what_a_notice_says() -> None:
    """A notice is an event with the span's ids, start, scope, resource and the attributes that it has so far."""
    watched = Watched()
    parent = watched.tracer.start_span("POST /orders", kind=SpanKind.SERVER)
    span = watched.tracer.start_span("charge", set_span_in_context(parent), SpanKind.CLIENT, {"peer": "payments"})
    span.set_attribute("attempt", 2)
    assert watched.processor.force_flush()
    root, child = watched.exporter.get_finished_logs()
    record = child.log_record
    assert record.event_name == RUNNING
    assert (record.trace_id, record.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert record.timestamp == span.start_time  # type: ignore[attr-defined]
    assert record.observed_timestamp
    assert record.observed_timestamp >= span.start_time  # type: ignore[attr-defined]
    assert record.attributes == {
        "peer": "payments",
        "attempt": 2,
        RUNNING_NAME: "charge",
        RUNNING_KIND: "client",
        RUNNING_PARENT: f"{parent.get_span_context().span_id:016x}",
    }
    assert child.instrumentation_scope
    assert (child.instrumentation_scope.name, child.resource) == ("shop", watched.provider.resource)
    assert root.log_record.attributes == {RUNNING_NAME: "POST /orders", RUNNING_KIND: "server"}


def test_only_what_runs_for_a_round_is_told() -> None:
    """A span that ends within a round costs no notice, one that outlives a round is told of once."""
    watched = Watched()
    watched.tracer.start_span("short").end()
    long = watched.tracer.start_span("long")
    watched.round()
    middle = watched.tracer.start_span("middle")
    assert watched.told() == []
    watched.round()
    assert watched.told() == ["long"]
    middle.end()
    watched.round()
    watched.round()
    assert watched.told() == []
    long.end()


def test_what_goes_on_is_told_again() -> None:
    """A span that still runs is told of again after a while, with what has become of it, and not when it has ended."""
    watched = Watched()
    span = watched.tracer.start_span("GET")
    for _ in range(2):
        watched.round()
    assert watched.told() == ["GET"]
    span.update_name("GET /orders")
    for _ in range(RENEW_ROUNDS):
        watched.round()
    assert watched.told() == ["GET /orders"]
    span.end()
    for _ in range(RENEW_ROUNDS):
        watched.round()
    assert watched.told() == []


def test_a_flush_tells_at_once() -> None:
    """Flushing tells of all that run, however short, and of none of them twice."""
    watched = Watched()
    watched.tracer.start_span("new")
    assert watched.provider.force_flush()
    assert watched.provider.force_flush()
    assert watched.told() == ["new"]


@pytest.mark.parametrize("decision", [Decision.DROP, Decision.RECORD_ONLY])
def test_what_is_not_sampled_is_not_told(decision: Decision) -> None:
    """Of a trace that is not exported there are no notices either."""
    watched = Watched(provider=TracerProvider(sampler=StaticSampler(decision), shutdown_on_exit=False))
    watched.tracer.start_span("unsampled")
    watched.processor.force_flush()
    assert watched.told() == []


def test_secrets_are_cut_out() -> None:
    """A notice says no more than the span would."""
    watched = Watched()
    processor = UnfinishedSpans(ScrubbingLogExporter(watched.exporter), round_s=NEVER_S)
    watched.provider.add_span_processor(processor)
    watched.tracer.start_span(
        "GET https://u:hunter2@shop/?token=hunter2",
        attributes={"url.full": "https://shop/?token=hunter2", "http.request.header.authorization": ["hunter2"]},
    )
    processor.force_flush()
    (notice,) = watched.exporter.get_finished_logs()
    assert "hunter2" not in notice.to_json()
    assert REDACTED in notice.to_json()


def test_what_is_too_much_is_counted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of more spans than may be watched no notice is sent; they are counted, and somebody is told."""
    monkeypatch.setattr(unfinished, "MAX_RUNNING", 2)
    watched = Watched()
    for name in "abc":
        watched.tracer.start_span(name)
    watched.round()
    watched.tracer.start_span("d")
    watched.round()
    watched.round()
    assert watched.told() == ["a", "b"]
    assert watched.processor.dropped == 2
    assert "more than 2 spans run at once" in caplog.text


def test_attributes_that_are_being_written() -> None:
    """Attributes that change while a notice is made of them do no harm."""
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=8), shutdown_on_exit=False)
    watched = Watched(provider=provider)
    span = watched.tracer.start_span("busy")
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            span.set_attribute(f"key {number % 50}", number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2000):
            unfinished._notice(span)  # type: ignore[arg-type]
    finally:
        done.set()
        writer.join()


def test_an_exporter_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An exporter that raises or refuses harms nobody, and the flush says so."""

    class Failing(InMemoryLogRecordExporter):
        def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
            raise OSError(f"no viewer for {len(batch)}")

    watched = Watched(Failing())  # type: ignore[no-untyped-call]
    watched.tracer.start_span("lost")
    assert not watched.processor.force_flush()
    assert "notices of unfinished spans could not be sent" in caplog.text


def test_an_exporter_that_hangs() -> None:
    """Neither a request, nor a flush with a bound, nor the end waits for an exporter that does not come back."""
    asked, released = threading.Event(), threading.Event()

    class Hanging(InMemoryLogRecordExporter):
        def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
            asked.set()
            released.wait(60)
            return super().export(batch)

        def shutdown(self) -> None:
            released.set()

    exporter = Hanging()  # type: ignore[no-untyped-call]
    processor = UnfinishedSpans(exporter, round_s=0.01)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("shop")
    tracer.start_span("first")
    assert asked.wait(60)
    tracer.start_span("second").end()
    assert not processor.force_flush(timeout_millis=10)
    provider.shutdown()
    processor._thread.join(60)
    assert not processor._thread.is_alive()


def test_the_end_tells_of_what_is_left() -> None:
    """What runs when the process ends is told of, since its span will never come."""
    watched = Watched()
    watched.tracer.start_span("cut off")
    watched.provider.shutdown()
    assert watched.told() == ["cut off"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork() -> None:
    """A forked process tells of its own spans, and not of its parent's."""
    watched = Watched()
    watched.tracer.start_span("parent's")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        watched.tracer.start_span("child's")
        watched.provider.shutdown()
        os.write(writing, repr(watched.told()).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert told.read() == '["child\'s"]'
    os.waitpid(child, 0)
