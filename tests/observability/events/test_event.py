"""Events as CloudEvents."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from observability.events.event import MAX_TRACESTATE, Event, NotAnEventError, from_message, to_message, trace_context

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
VALID = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "7",
    "ce-source": "/shop",
    "ce-type": "order.placed",
    "ce-subject": "1",
}

_printable = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(' "%'), min_size=1, max_size=255
).filter(str.isprintable)
_times = st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))


@given(
    st.builds(
        Event,
        type=_printable,
        source=_printable,
        subject=_printable,
        id=_printable,
        data=st.binary(),
        time=_times,
        traceparent=st.none() | st.just(TRACEPARENT),
        tracestate=st.none() | st.just("vendor=a%20b,other=1"),
    )
)
@example(Event(" %25", '"', "Łódź 😀", b"", id="%"))
def test_round_trip(event: Event) -> None:
    """An event in a message is the same event again, whatever printable characters its attributes have."""
    headers, body = to_message(event)
    for name, value in headers.items():
        assert (name + value).isascii()
        assert value.isprintable()
        assert value == value.strip()
    assert from_message(headers, body) == event


def test_binary_mode() -> None:
    """The headers are those of CloudEvents' binding to HTTP, in binary mode, with what it says of percent-encoding."""
    event = Event(
        "order.placed",
        "/shop",
        'Euro € "50%"',
        b'{"a": 1}',
        id="7",
        time=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
        traceparent=TRACEPARENT,
        tracestate="vendor=1",
    )
    headers, body = to_message(event)
    assert headers == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "7",
        "ce-source": "/shop",
        "ce-type": "order.placed",
        "ce-subject": "Euro%20%E2%82%AC%20%2250%25%22",
        "ce-time": "2026-01-02T03:04:05.678000Z",
        "ce-traceparent": TRACEPARENT,
        "ce-tracestate": "vendor=1",
    }
    assert body == b'{"a": 1}'


def test_names_in_any_case() -> None:
    """Names of headers are taken in upper and lower case."""
    assert from_message({name.title(): value for name, value in VALID.items()}, b"{}").id == "7"


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "application/vnd.shop+json", "Application/JSON", "application/json"],
)
def test_json_content_types(content_type: str) -> None:
    """JSON may be told with a charset, or as a kind of it."""
    assert from_message({**VALID, "content-type": content_type}, b"{}").data == b"{}"


def test_without_time() -> None:
    """An event without a time happened when it came."""
    assert datetime.now(UTC) - from_message(VALID, b"{}").time < timedelta(minutes=1)


def test_body_as_it_is() -> None:
    """The body is handed on byte by byte, JSON or not, for whoever reads it by a schema."""
    assert from_message(VALID, b"\xff{nonsense").data == b"\xff{nonsense"


@pytest.mark.parametrize(
    "wrong",
    [
        {"ce-specversion": None},
        {"ce-specversion": "0.3"},
        {"ce-id": None},
        {"ce-id": ""},
        {"ce-source": None},
        {"ce-type": None},
        {"ce-subject": None},
        {"ce-subject": ""},
        {"ce-subject": "x" * 256},
        {"ce-type": "order%0Aplaced"},
        {"ce-id": "%00"},
        {"ce-time": "yesterday"},
        {"ce-time": "2026-01-02T03:04:05"},
        {"ce-time": "\uff19999-01-01"},
        {"ce-data": "reserved"},
        {"ce-not_a_name": "1"},
        {"ce-": "1"},
        {"content-type": None},
        {"content-type": "text/plain"},
        {"content-type": "application/cloudevents+xml"},
    ],
    ids=str,
)
def test_malformed(wrong: dict[str, str | None]) -> None:
    """What is no CloudEvent 1.0 in JSON with a subject is refused."""
    headers = {name: value for name, value in (VALID | wrong).items() if value is not None}
    with pytest.raises(NotAnEventError):
        from_message(headers, b"{}")


_names = st.sampled_from([*VALID, "ce-time", "ce-traceparent", "ce-tracestate", "ce-data", "ce-dataschema"]) | st.text(
    string.ascii_letters + "-", max_size=12
).map(lambda name: f"ce-{name}")
_latin = st.text(st.characters(max_codepoint=255), max_size=300)
_texts = st.text(string.digits + "-:TZ+.,W%", max_size=30) | _latin


@given(st.dictionaries(_names, _texts, max_size=5), st.binary(max_size=20))
@example({"ce-time": "2026-W01-1T24:00:00.0+99:99"}, b"")
@example({"ce-time": "0001-01-01T00:00:00+23:59"}, b"")
def test_anything(changed: dict[str, str], body: bytes) -> None:
    """Whatever comes is an event that can be told again, or it is refused; nothing else happens."""
    try:
        event = from_message(VALID | changed, body)
    except NotAnEventError:
        return
    headers, _ = to_message(event)
    assert from_message(headers, body).id == event.id
    assert isinstance(event.context, dict)


@pytest.mark.parametrize(
    "wrong",
    [{"type": ""}, {"source": "x" * 256}, {"subject": "a\nb"}, {"id": "\ud800"}, {"time": datetime(2026, 1, 1)}],  # noqa: DTZ001
)
def test_wrong_when_made(wrong: dict[str, Any]) -> None:
    """What could never be delivered is no event from the beginning."""
    with pytest.raises(NotAnEventError):
        Event(**({"type": "order.placed", "source": "/shop", "subject": "1", "data": b"{}"} | wrong))


def test_context() -> None:
    """The context of an event is the span in which it came to be."""
    event = from_message({**VALID, "ce-traceparent": TRACEPARENT, "ce-tracestate": "vendor=1"}, b"{}")
    found = trace.get_current_span(event.context).get_span_context()
    assert trace.format_span_id(found.span_id) == "00f067aa0ba902b7"
    assert found.trace_state.get("vendor") == "1"


@given(
    st.none()
    | st.sampled_from(["00-0-0-0", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff" + TRACEPARENT[2:]])
    | _latin
)
def test_no_context(traceparent: str | None) -> None:
    """An event that tells nothing or nonsense of its trace has none, whatever span is the current one."""
    current = NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(current):
        event = Event("order.placed", "/shop", "1", b"{}", traceparent=traceparent, tracestate="vendor=1")
        assert not trace.get_current_span(event.context).get_span_context().is_valid


def test_tracestate_that_is_too_long() -> None:
    """A tracestate that is longer than any outbox keeps is left out, and the traceparent is not."""
    states = {
        "fits": TraceState([("a", "x" * 200), ("b", "x" * 200)]),
        "too long": TraceState([(name, "x" * 200) for name in "abc"]),
    }
    told = {}
    for name, state in states.items():
        context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1), trace_state=state)
        with trace.use_span(NonRecordingSpan(context)):
            told[name] = trace_context()
    assert 400 < len(told["fits"]["tracestate"]) <= MAX_TRACESTATE
    assert told["too long"] == {"traceparent": told["fits"]["traceparent"]}
