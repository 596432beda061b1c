"""Lean spans: whatever is done with one, it tells what a span of the SDK tells."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from observability.fastpath.span import LeanSpan
from tests.observability.fastpath.pairs import KeptSpans, both_providers, difference, what_is
from tests.observability.fastpath.values import ATTRIBUTES, NAMES, TEXTS, VALUES


class _Text(str):
    """A text of a type of its own."""

    __slots__ = ()


class _Words:
    """Something else, which says what it is."""

    def __str__(self) -> str:
        return "words " * 10


class _Nothing:
    """Something that has nothing to say."""


OTHER_VALUES = st.sampled_from([_Text("own"), _Words(), _Nothing(), bytearray(b"a"), range(3), {1}, 1j, True])
OTHER_KEYS = st.sampled_from(["", 1, None, _Text("own"), _Text(""), _Words(), b"a"])
KEYS = st.sampled_from(["a", "b", "c"]) | NAMES | OTHER_KEYS
ANY_VALUES = st.sampled_from([1, "b", 2.5, True]) | VALUES | OTHER_VALUES | st.text("long", min_size=100, max_size=200)
MAPPINGS = st.one_of(
    ATTRIBUTES,
    st.dictionaries(KEYS, ANY_VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 5) | st.sampled_from(["x", "longer"])),
    st.none(),
)
CONTEXTS = st.builds(
    SpanContext,
    trace_id=st.integers(0, (1 << 128) - 1),
    span_id=st.integers(0, (1 << 64) - 1),
    is_remote=st.booleans(),
    trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    trace_state=st.sampled_from([TraceState(), TraceState([("a", "1")])]),
)
LIMITS = st.builds(
    SpanLimits,
    max_span_attributes=st.sampled_from([0, 1, 2, 128, SpanLimits.UNSET]),
    max_event_attributes=st.sampled_from([0, 1, 128]),
    max_link_attributes=st.sampled_from([0, 1, 128]),
    max_events=st.sampled_from([0, 1, 2, 128, SpanLimits.UNSET]),
    max_links=st.sampled_from([0, 1, 2, 128, SpanLimits.UNSET]),
    max_attribute_length=st.sampled_from([0, 3, 128, SpanLimits.UNSET]),
    max_span_attribute_length=st.sampled_from([0, 3, 128, None]),
)
TIMES = st.integers(0, (1 << 64) - 1)

Step = Callable[[Any], object]


def _raised(name: str) -> ValueError:
    try:
        raise ValueError(name)
    except ValueError as error:
        return error


STATUSES = st.one_of(
    st.sampled_from(StatusCode).map(lambda code: (code, None)),
    st.tuples(st.sampled_from(StatusCode), TEXTS),
    st.tuples(st.builds(Status, st.sampled_from(StatusCode), st.none() | TEXTS), st.none() | TEXTS),
    st.just((2, "no status")),
)
STEPS: st.SearchStrategy[tuple[str, Step]] = st.one_of(
    st.tuples(KEYS, ANY_VALUES).map(lambda pair: ("set_attribute", lambda span: span.set_attribute(*pair))),
    MAPPINGS.map(lambda mapping: ("set_attributes", lambda span: span.set_attributes(mapping))),
    st.tuples(TEXTS, MAPPINGS, TIMES).map(lambda event: ("add_event", lambda span: span.add_event(*event))),
    st.tuples(CONTEXTS, MAPPINGS).map(lambda link: ("add_link", lambda span: span.add_link(*link))),
    st.tuples(TEXTS.map(_raised), ATTRIBUTES, TIMES).map(
        lambda told: ("record_exception", lambda span: span.record_exception(*told))
    ),
    STATUSES.map(lambda status: ("set_status", lambda span: span.set_status(*status))),
    TEXTS.map(lambda name: ("update_name", lambda span: span.update_name(name))),
    st.just(("is_recording", lambda span: span.is_recording())),
    TIMES.map(lambda time: ("start", lambda span: span.start(time))),
    TIMES.map(lambda time: ("end", lambda span: span.end(time))),
)


def _outcome(step: Step, span: Span) -> object:
    try:
        return step(span)
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error)


@given(
    st.lists(STEPS, max_size=8),
    MAPPINGS,
    st.lists(st.tuples(CONTEXTS, MAPPINGS), max_size=2),
    st.sampled_from(SpanKind),
    LIMITS,
    st.booleans(),
)
def test_parity(  # noqa: PLR0917 - hypothesis gives them by position
    steps: list[tuple[str, Step]],
    attributes: Mapping[str, Any] | None,
    links: list[tuple[SpanContext, Mapping[str, Any] | None]],
    kind: SpanKind,
    limits: SpanLimits,
    alone: bool,
) -> None:
    """After each step, to each processor, and as bytes, both tell the same, and complain of the same."""

    def play(provider: TracerProvider) -> object:
        span = provider.get_tracer("t").start_span(
            "a", kind=kind, attributes=attributes, links=[Link(*link) for link in links], start_time=1
        )
        told = [("start", None, what_is(span))]  # type: ignore[arg-type]
        for name, step in steps:
            told.append((name, _outcome(step, span), what_is(span)))  # type: ignore[arg-type]
        span.end(2)
        return told

    assert difference(play, alone=alone, limits=limits) == ""


@pytest.mark.parametrize("most", [1, 2, 3, 128])
@pytest.mark.parametrize(
    "again",
    [
        lambda span: span.set_attribute("a", 2),
        lambda span: span.set_attribute("a", [2]),
        lambda span: span.set_attributes({"c": 1, "a": 2}),
        lambda span: span.set_attributes({"a": [2], "c": 1}),
    ],
)
def test_an_attribute_that_is_set_again(again: Step, most: int) -> None:
    """It becomes the youngest, and the oldest makes room when there are too many."""

    def play(provider: TracerProvider) -> object:
        span = provider.get_tracer("t").start_span("a", attributes={"a": 1, "b": 1}, start_time=1)
        again(span)
        span.set_attribute("d", 1)
        span.end(2)
        return list((getattr(span, "attributes", None) or {}).items())

    assert difference(play, alone=True, limits=SpanLimits(max_span_attributes=most)) == ""


def _lean_span(**limits: int) -> tuple[Span, KeptSpans]:
    kept = KeptSpans()
    provider = both_providers(limits=SpanLimits(**limits))[1]
    provider.add_span_processor(kept)
    span = provider.get_tracer("t").start_span("a")
    assert isinstance(span, LeanSpan)
    return span, kept


def test_it_is_one_of_the_sdk() -> None:
    """It passes for a span of the SDK while it runs, and what processors get at its end is an ordinary one."""
    span, kept = _lean_span()
    span.end()
    assert isinstance(span, Span)
    assert [type(ended) for ended in kept.ended] == [ReadableSpan]


def test_times() -> None:
    """Without a time it starts and ends at that of the clock."""
    span, _ = _lean_span()
    span.end()
    assert 0 < (span.start_time or 0) <= (span.end_time or 0) < 1 << 63


def test_what_was_read_stays_as_it_was() -> None:
    """Attributes that were read are a copy, so that they can be gone through while others are set."""
    span, _ = _lean_span()
    span.set_attribute("a", 1)
    read = span.attributes
    span.set_attribute("b", 2)
    assert (dict(read or {}), dict(span.attributes or {})) == ({"a": 1}, {"a": 1, "b": 2})


def test_a_value_is_taken_as_it_is_when_it_is_set() -> None:
    """A list or a dictionary that its owner changes afterwards does not change the span."""
    listed, mapped = [1], {"a": 1}
    span, _ = _lean_span()
    span.set_attributes({"list": listed})
    span.set_attribute("map", mapped)
    listed.append(2)
    mapped["b"] = 2
    assert dict(span.attributes or {}) == {"list": (1,), "map": {"a": 1}}


def test_one_of_many_threads_ends_it() -> None:
    """Threads that write to a span and end it at once end it once, and lose nothing that was written before."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            span, kept = _lean_span()
            ready, written = threading.Barrier(4), threading.Barrier(4)

            def work(
                number: int,
                span: Span = span,
                ready: threading.Barrier = ready,
                written: threading.Barrier = written,
            ) -> None:
                ready.wait(10)
                for index in range(10):
                    span.set_attribute(f"{number}.{index}", index)
                    span.set_attribute("same", index)
                    span.add_event(f"{number}.{index}")
                written.wait(10)
                span.end()

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            (ended,) = kept.ended
            assert (len(ended.attributes or {}), len(ended.events)) == (41, 40)
    finally:
        sys.setswitchinterval(interval)
