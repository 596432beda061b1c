"""Spans that still run."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store import Store, unfinished
from observability.viewer.store.traces import INVALID_IDS
from observability.viewer.store.unfinished import (
    FORGET_AFTER_S,
    MAX_NOTICE_BYTES,
    SETTLE_EVERY_S,
    SpanKey,
    Unfinished,
)
from tests.observability.viewer.samples import (
    START_NS,
    add,
    log_request,
    noise,
    notice,
    number,
    record,
    request,
    span,
    span_id,
    trace_id,
)


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _nobody(_keys: Collection[SpanKey]) -> set[SpanKey]:
    return set()


def _take(found: Unfinished, *records: LogRecord) -> tuple[list[LogRecord], dict[str, int]]:
    """What is left of a request, and what was refused of it."""
    body, refused = found.take(log_request(*records).SerializeToString())
    left = ExportLogsServiceRequest.FromString(body).resource_logs
    return [one for resource in left for scope in resource.scope_logs for one in scope.log_records], dict(refused)


def _names(found: Unfinished, trace: int | None = None) -> list[str]:
    return [one.span.name for one in found.spans(None if trace is None else trace_id(trace))]


def test_what_a_notice_tells() -> None:
    """A notice becomes a span without an end, with the attributes that are its own."""
    found = Unfinished(_nobody)
    _take(found, notice(1, 2, 3, name="GET /stock", kind="client", ran_ns=5, attributes=[number("attempt", 2)]))
    (one,) = found.spans()
    assert (one.span.trace_id, one.span.span_id, one.span.parent_id) == (trace_id(1), span_id(2), span_id(3))
    assert (one.span.service, one.span.name, one.span.kind) == ("orders", "GET /stock", 3)
    assert (one.span.start_ns, one.span.end_ns) == (START_NS, START_NS + 5)
    assert Span.FromString(one.span.span) == Span(
        trace_id=trace_id(1),
        span_id=span_id(2),
        parent_span_id=span_id(3),
        name="GET /stock",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=START_NS,
        attributes=[number("attempt", 2)],
    )


def test_notices_are_no_log_records() -> None:
    """Notices are taken out of a request, and everything else is left as it was; also what only speaks of them."""
    found = Unfinished(_nobody)
    told = [record("first"), record("clearspan.span.running"), record("last", event_name="clearspan.span.running.not")]
    left, refused = _take(found, told[0], notice(1), told[1], notice(2), told[2])
    assert (left, refused) == (told, {})
    assert len(found.spans()) == 2
    assert _take(found, notice(3)) == ([], {})
    plain = log_request(record("no notice here")).SerializeToString()
    assert found.take(plain)[0] is plain


def test_a_span_that_comes_is_unfinished_no_longer(store: Store) -> None:
    """A notice goes when its span has come, and only then; one that comes after its span never shows."""
    _take(store.unfinished, notice(1, 1), notice(1, 2, 1, name="child"), notice(2, name="other"))
    assert _names(store.unfinished) == ["POST /orders", "other", "child"]
    add(store, span(1, 2, 1), span(2, 7))
    assert _names(store.unfinished) == ["POST /orders", "other"]
    assert _names(store.unfinished, 1) == ["POST /orders"]
    _take(store.unfinished, notice(1, 2, 1, name="late"))
    assert _names(store.unfinished, 1) == ["POST /orders"]


def test_it_is_settled_without_readers() -> None:
    """What has come goes although nobody looks, so that a span that the file has forgotten does not seem to run."""
    clock, arrived = Clock(), set[SpanKey]()
    found = Unfinished(lambda keys: arrived & set(keys), now=clock)
    _take(found, notice(1), notice(2, name="still running"))
    arrived.add((trace_id(1), span_id(1)))
    clock.now += SETTLE_EVERY_S
    found.settle()
    arrived.clear()
    assert _names(found) == ["still running"]


def test_a_file_that_fails() -> None:
    """A file that cannot be read keeps no spans out; whoever asks what runs is told."""

    def failing(_keys: Collection[SpanKey]) -> set[SpanKey]:
        raise sqlite3.OperationalError("disk I/O error")

    clock = Clock()
    found = Unfinished(failing, now=clock)
    _take(found, notice(1))
    clock.now += SETTLE_EVERY_S
    found.settle()
    with pytest.raises(sqlite3.OperationalError):
        found.spans()


def test_a_sender_that_is_gone() -> None:
    """A span stays while it is told of, and for a while after; how long that was is told."""
    clock = Clock()
    found = Unfinished(_nobody, now=clock)
    _take(found, notice(1), notice(2, name="alive"))
    clock.now += FORGET_AFTER_S - 10
    _take(found, notice(2, name="alive", ran_ns=10**12))
    assert [(one.span.name, one.silent_ns) for one in found.spans()] == [
        ("POST /orders", round((FORGET_AFTER_S - 10) * 1e9)),
        ("alive", 0),
    ]
    clock.now += 11
    (one,) = found.spans()
    assert (one.span.end_ns, one.silent_ns) == (START_NS + 10**12, 11 * 10**9)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room those go that were not heard of for the longest time, and are counted."""
    monkeypatch.setattr(unfinished, "MAX_UNFINISHED", 2)
    found = Unfinished(_nobody)
    _take(found, notice(1, name="a"), notice(2, name="b"))
    _take(found, notice(1, name="a again"))
    _take(found, notice(3, name="c"))
    assert (_names(found), found.dropped) == (["a again", "c"], 1)
    monkeypatch.setattr(unfinished, "MAX_UNFINISHED_BYTES", 3900)
    _take(found, notice(4, name="large", attributes=[noise(3500)]))
    assert (_names(found), found.dropped) == (["large"], 3)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is refused with its reason."""
    monkeypatch.setattr(unfinished, "MAX_UNFINISHED", 1)
    found = Unfinished(_nobody)
    huge = notice(1, attributes=[noise(MAX_NOTICE_BYTES)])
    nobodys = notice(0)
    assert _take(found, huge, nobodys, notice(1), notice(2)) == (
        [],
        {unfinished.TOO_LARGE: 1, INVALID_IDS: 1, unfinished.TOO_MANY: 1},
    )


@pytest.mark.parametrize(
    "broken",
    [
        b"clearspan.span.running",
        log_request(notice(1)).SerializeToString() + b"\xff",
        log_request(notice(1), notice(2)).SerializeToString()[:-1],
    ],
)
def test_broken_requests(broken: bytes) -> None:
    """Of what is no message no notice is taken."""
    found = Unfinished(_nobody)
    with pytest.raises(DecodeError):
        found.take(broken)
    assert found.spans() == []


def test_of_one_trace_of_many_parts(store: Store) -> None:
    """A span is found among those of its trace, in whichever request it came."""
    for index in range(1, 6):
        add(store, span(1, index), span(index + 1, 9))
    _take(store.unfinished, *(notice(1, index, name=str(index)) for index in range(1, 8)))
    assert _names(store.unfinished) == ["6", "7"]


WORDS = st.text() | st.sampled_from(["server", "consumer", span_id(3).hex(), "00" * 8, "0x12", "<script>"])


@given(
    st.builds(
        LogRecord,
        trace_id=st.just(trace_id(1)),
        span_id=st.just(span_id(1)),
        time_unix_nano=st.integers(0, 2**64 - 1),
        observed_time_unix_nano=st.integers(0, 2**64 - 1),
        event_name=st.just("clearspan.span.running"),
        attributes=st.lists(
            st.builds(
                KeyValue,
                key=st.sampled_from([f"clearspan.span.{one}" for one in ("name", "kind", "parent_id")] + ["own"]),
                value=st.builds(AnyValue, string_value=WORDS) | st.builds(AnyValue, bytes_value=st.binary()),
            )
        ),
    )
)
def test_any_notice(sent: LogRecord) -> None:
    """Whatever a notice says, it is a span that does not end before it begins, and whose times the file could hold."""
    found = Unfinished(_nobody)
    assert _take(found, sent) == ([], {})
    (one,) = found.spans()
    assert 0 <= one.span.start_ns <= one.span.end_ns < 2**63
    assert len(one.span.parent_id) in (0, 8)
    assert Span.FromString(one.span.span).kind in range(6)


class Table(RuleBasedStateMachine):
    """The table beside a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.came = set[SpanKey]()
        self.heard = dict[SpanKey, float]()
        self.found = Unfinished(lambda keys: self.came & set(keys), now=self.clock)

    @rule(trace=st.integers(1, 3), span=st.integers(1, 3))
    def tell(self, trace: int, span: int) -> None:
        """A span runs."""
        _take(self.found, notice(trace, span))
        self.heard[trace_id(trace), span_id(span)] = self.clock.now

    @rule(trace=st.integers(1, 3), span=st.integers(1, 3))
    def come(self, trace: int, span: int) -> None:
        """A span ends."""
        self.came.add((trace_id(trace), span_id(span)))

    @rule(seconds=st.floats(0, FORGET_AFTER_S))
    def wait(self, seconds: float) -> None:
        """Nothing is heard for a while."""
        self.clock.now += seconds
        self.found.settle()

    @invariant()
    def same(self) -> None:
        """Those are there that did not come and were heard of lately, within the bytes that are counted."""
        wanted = {
            key
            for key, heard in self.heard.items()
            if key not in self.came and self.clock.now - heard <= FORGET_AFTER_S
        }
        assert {(one.span.trace_id, one.span.span_id) for one in self.found.spans()} == wanted
        assert self.found._bytes == sum(one.span.size for one in self.found._notices.values())


TestTable = Table.TestCase


def test_a_request_of_spans_is_none() -> None:
    """Another signal's request has no notices."""
    found = Unfinished(_nobody)
    body = request([span(1)]).SerializeToString()
    assert found.take(body) == (body, {})
