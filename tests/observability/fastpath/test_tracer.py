"""Lean tracers: the same spans as those of the SDK, in the same places, for the same reasons."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    SpanProcessor,
    TracerProvider,
    _default_tracer_configurator,
    _disable_tracer_configurator,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    AlwaysRecordSampler,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    NoOpTracer,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
    use_span,
)

from observability.fastpath.processors import EncodingSpanProcessor
from observability.fastpath.tracer import LeanTracer, LeanTracerProvider
from tests.observability.fastpath.pairs import Counted, KeptBytes, KeptSpans, both_providers, difference


class Choosy(Sampler):
    """Decides by name, adds an attribute, and writes to the trace state."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *others: Any) -> SamplingResult:
        """As the class says."""
        del parent_context, others
        decision = Decision[name] if name in Decision.__members__ else Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, {"trace": f"{trace_id:x}"}, TraceState([("chosen", name.lower())]))

    def get_description(self) -> str:
        """What it is."""
        return "Choosy"


class Zeros(IdGenerator):
    """Ids that are none."""

    def generate_span_id(self) -> int:
        """None."""
        return 0

    def generate_trace_id(self) -> int:
        """None either."""
        return 0


class RandomZeros(Zeros):
    """Says that they are random."""

    def is_trace_id_random(self) -> bool:
        """It is not true."""
        return True


SAMPLERS = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "record_only": StaticSampler(Decision.RECORD_ONLY),
    "parentbased_always_on": DEFAULT_ON,
    "parentbased_always_off": DEFAULT_OFF,
    "traceidratio": TraceIdRatioBased(0.5),
    "traceidratio_0": TraceIdRatioBased(0),
    "traceidratio_1": TraceIdRatioBased(1),
    "parentbased_traceidratio": ParentBasedTraceIdRatio(0.5),
    "parentbased_mixed": ParentBased(
        Choosy(),
        remote_parent_sampled=ALWAYS_OFF,
        remote_parent_not_sampled=TraceIdRatioBased(0.5),
        local_parent_sampled=StaticSampler(Decision.RECORD_ONLY),
        local_parent_not_sampled=ALWAYS_ON,
    ),
    "parentbased_nested": ParentBased(ParentBased(TraceIdRatioBased(0.5))),
    "always_record": AlwaysRecordSampler(DEFAULT_OFF),
    "choosy": Choosy(),
}


def _context(number: int, *, remote: bool, flags: int, state: TraceState | None = None) -> SpanContext:
    return SpanContext((number << 60) | 1, number, is_remote=remote, trace_flags=TraceFlags(flags), trace_state=state)


PARENTS: list[SpanContext | None] = [
    None,
    SpanContext(0, 0, is_remote=True),
    SpanContext(1, 0, is_remote=False, trace_flags=TraceFlags(1)),
    *(
        _context(number, remote=remote, flags=flags, state=state)
        for number in (1, 8, 15)
        for remote in (True, False)
        for flags in (0, 1, 2, 3, 7)
        for state in (None, TraceState([("a", "b")]))
    ),
]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("ids", [Counted, Zeros, RandomZeros])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_samplers_and_parents(sampler: Sampler, ids: Callable[[], IdGenerator], alone: bool) -> None:
    """Each sampler decides the same of each kind of parent, and the span has the same ids, flags and state."""

    def play(provider: TracerProvider) -> object:
        tracer, told = provider.get_tracer("t"), []
        for parent in PARENTS:
            context = set_span_in_context(NonRecordingSpan(parent), Context()) if parent is not None else Context()
            for name in ("DROP", "RECORD_ONLY", "RECORD_AND_SAMPLE"):
                outer = tracer.start_span(name, context, attributes={"b": 1}, start_time=1)
                inner = tracer.start_span("inner", set_span_in_context(outer, Context()), start_time=2)
                told += [(span.is_recording(), *span.get_span_context()) for span in (outer, inner)]
                inner.end(3)
                outer.end(4)
        return told

    assert difference(play, alone=alone, sampler=sampler, ids=ids) == ""


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("always_on", ""),
        ("always_off", ""),
        ("parentbased_always_on", ""),
        ("parentbased_always_off", ""),
        ("traceidratio", "0.25"),
        ("parentbased_traceidratio", "0.25"),
        ("parentbased_traceidratio", "many"),
        ("unknown", ""),
    ],
)
def test_samplers_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, argument: str) -> None:
    """`OTEL_TRACES_SAMPLER` means what it means to the SDK."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)

    def play(provider: TracerProvider) -> object:
        tracer = provider.get_tracer("t")
        return [tracer.start_span(f"{number}", Context()).is_recording() for number in range(40)]

    assert difference(play, alone=True) == ""


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "1"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"},
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"},
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
        {"OTEL_SPAN_LINK_COUNT_LIMIT": "1"},
        {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1"},
        {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ""},
    ],
)
def test_limits_of_the_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Each of the variables of limits means what it means to the SDK."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    attributes: dict[str, Any] = {"a": "long enough", "b": [1, "as long"], "c": 3}

    def play(provider: TracerProvider) -> object:
        links = [Link(_context(number, remote=True, flags=1), attributes) for number in (1, 2)]
        span = provider.get_tracer("t").start_span("a", attributes=attributes, links=links, start_time=1)
        span.set_attribute("d", "another one")
        span.add_event("e", attributes, 1)
        span.add_event("f", attributes, 1)
        span.add_link(_context(3, remote=False, flags=0), attributes)
        span.end(2)
        return None

    assert difference(play, alone=True) == ""


@pytest.mark.parametrize("limit", ["-1", "many"])
def test_limits_that_are_none(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A limit that is no number is refused, as the SDK refuses it."""
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", limit)
    with pytest.raises(ValueError, match="OTEL_SPAN_EVENT_COUNT_LIMIT must be a non-negative integer"):
        both_providers()


@pytest.mark.parametrize(
    "attributes",
    [None, {}, {"a": 1}, {"": 1}, {"a": [1, None, "b"], "c": {"d": b"e"}}, {1: 2}, [("a", 1)], "ab", 5],
)
@pytest.mark.parametrize("alone", [True, False])
def test_attributes_at_the_start(attributes: Any, alone: bool) -> None:
    """Whatever comes as attributes at the start is taken, or refused, as the SDK does."""

    def play(provider: TracerProvider) -> object:
        try:
            provider.get_tracer("t").start_span("a", attributes=attributes, start_time=1).end(2)
        except (TypeError, AttributeError):
            return "refused"
        return None

    assert difference(play, alone=alone) == ""


def test_a_parent_that_is_no_span() -> None:
    """What a context holds in the place of a span is no parent, and a span's context has to be one."""

    def play(provider: TracerProvider) -> object:
        tracer = provider.get_tracer("t")
        (key,) = set_span_in_context(INVALID_SPAN, Context())
        told: list[object] = [tracer.start_span("a", Context({key: "no span"})).get_span_context()]
        told.append(tracer.start_span("b", set_span_in_context(NonRecordingSpan(None))).get_span_context())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="parent_span_context must be a SpanContext or None"):
            tracer.start_span("c", set_span_in_context(NonRecordingSpan("no context")))  # type: ignore[arg-type]
        return told

    assert difference(play, alone=True) == ""


@pytest.mark.parametrize("before", [True, False])
def test_a_tracer_that_is_disabled(before: bool) -> None:
    """A tracer that its configuration disables hands the parent on, from when it is told so until it is enabled."""

    def play(provider: TracerProvider) -> object:
        parent = set_span_in_context(NonRecordingSpan(_context(1, remote=True, flags=1)), Context())
        tracer = provider.get_tracer("t") if before else None
        provider._set_tracer_configurator(tracer_configurator=_disable_tracer_configurator)
        tracer = tracer or provider.get_tracer("t")
        told = [tracer.start_span("a", context) for context in (parent, Context())]
        provider._set_tracer_configurator(tracer_configurator=_default_tracer_configurator)
        told.append(tracer.start_span("b", parent))
        return [(span.is_recording(), span.get_span_context()) for span in told]

    assert difference(play, alone=True) == ""


def test_disabled_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SDK_DISABLED` leaves tracers that do nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert [type(provider.get_tracer("t")) for provider in both_providers()] == [NoOpTracer, NoOpTracer]


def test_tracers() -> None:
    """What is the same in all four names of a scope has one tracer, which is lean; one without a name is told of."""

    def play(provider: TracerProvider) -> object:
        same = provider.get_tracer("t", "1", "s", {"a": 1}) is provider.get_tracer("t", "1", "s", {"a": 1})
        others = [provider.get_tracer("t"), provider.get_tracer("t", "2"), provider.get_tracer("u"), None]
        others[3] = provider.get_tracer("")
        for tracer in others:
            assert tracer is not None
            tracer.start_span("a", start_time=1).end(2)
        return same, len({id(tracer) for tracer in others})

    with warnings.catch_warnings():
        assert difference(play, alone=False) == ""
    assert type(both_providers()[1].get_tracer("t")) is LeanTracer


def test_the_current_span_is_the_parent() -> None:
    """A span's parent is the current one of whatever kind, unless another context is given."""

    def play(provider: TracerProvider) -> object:
        tracer, other = provider.get_tracer("t"), both_providers(ids=lambda: Counted(50))[0].get_tracer("o")
        with tracer.start_as_current_span("a", start_time=1, end_on_exit=False) as outer:
            tracer.start_span("b", start_time=2).end(3)
            tracer.start_span("c", Context(), start_time=2).end(3)
            with use_span(other.start_span("another's")):
                tracer.start_span("d", start_time=2).end(3)
        outer.end(4)
        return None

    assert difference(play, alone=False) == ""


def test_default_ids() -> None:
    """Ids are random, all of them differ, and the trace says that its own is."""
    tracer = LeanTracerProvider(resource=Resource({}), meter_provider=NoOpMeterProvider()).get_tracer("t")
    contexts = [tracer.start_span("a", Context()).get_span_context() for _ in range(100)]
    assert len({context.trace_id for context in contexts} | {context.span_id for context in contexts}) == 200
    assert {(context.is_valid, context.trace_flags) for context in contexts} == {(True, TraceFlags(3))}
    assert [SpanContext(*context[:5]) for context in contexts] == contexts


class Mine(SpanProcessor):
    """One that a user adds."""


@pytest.mark.parametrize(
    ("others", "alone"), [([], True), ([Mine()], False), ([SimpleSpanProcessor(InMemorySpanExporter())], False)]
)
def test_who_gets_spans_as_they_are(others: Sequence[SpanProcessor], alone: bool) -> None:
    """The kit's processor gets spans without a copy for as long as it is the only one."""
    provider, sender = both_providers()[1], KeptBytes()
    provider.add_span_processor(EncodingSpanProcessor(sender))
    for other in others:
        provider.add_span_processor(other)
    assert (provider._active_span_processor.alone is not None) is alone  # type: ignore[union-attr]
    provider.get_tracer("t").start_span("a").end()
    assert len(sender.entries) == 1


def test_a_processor_that_comes_later() -> None:
    """A processor that is added while a span runs sees its end, as always."""

    def play(provider: TracerProvider) -> object:
        kept = KeptSpans()
        span = provider.get_tracer("t").start_span("a", start_time=1)
        provider.add_span_processor(kept)
        span.end(2)
        return kept.told

    assert difference(play, alone=True) == ""


def test_after_a_fork() -> None:
    """A forked process has an instance id of its own in the spans that it starts, and those that run keep theirs."""
    code = """
import os
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from observability.fastpath.tracer import LeanTracerProvider
for provider in (
    TracerProvider(resource=Resource({"service.instance.id": "a"}), meter_provider=NoOpMeterProvider()),
    LeanTracerProvider(resource=Resource({"service.instance.id": "a"}), meter_provider=NoOpMeterProvider()),
):
    tracer = provider.get_tracer("t")
    before = tracer.start_span("before")
    if not (child := os.fork()):
        ids = [span.resource.attributes["service.instance.id"] for span in (before, tracer.start_span("after"))]
        os._exit(0 if ids[0] == "a" != ids[1] else 1)
    print(os.waitpid(child, 0)[1])
"""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CLEARSPAN_"))}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=clean, capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout.split() == ["0", "0"]
