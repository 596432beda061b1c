"""The store against a model of it that keeps everything in lists and looks at everything."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from observability.viewer.query import Comparison, Query, Value, as_text, parse
from observability.viewer.store import Store, blocks, retention
from observability.viewer.store.statistics import MINUTE_NS
from tests.observability.viewer.samples import START_NS, span_id, text, trace_id

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
SERVICES = ("orders", "payments", "ship")
NAMES = ("GET /", "POST /orders", "")
VALUES: dict[str, AnyValue] = {
    "none": AnyValue(),
    "text": AnyValue(string_value="x y"),
    "five": AnyValue(int_value=5),
    "text five": AnyValue(string_value="5"),
    "large": AnyValue(int_value=2**62),
    "float": AnyValue(double_value=5.0),
    "tiny": AnyValue(double_value=1e-30),
    "endless": AnyValue(double_value=float("inf")),
    "true": AnyValue(bool_value=True),
    "bytes": AnyValue(bytes_value=b"\0\1"),
    "other": AnyValue(string_value="ä" * 200),
}
PLAIN: dict[str, Value] = {
    "none": "",
    "text": "x y",
    "five": 5,
    "text five": "5",
    "large": 2**62,
    "float": 5.0,
    "tiny": 1e-30,
    "endless": float("inf"),
    "true": True,
    "bytes": "AAE=",
    "other": "ä" * 200,
}


@dataclass
class ModelSpan:
    """A span as the test sends it; attributes are names of `VALUES`."""

    trace: int
    span: int
    parent: int
    service: str
    name: str
    kind: int
    code: int
    start: int
    duration: int
    attributes: list[tuple[str, str]]
    resource: list[tuple[str, str]] = field(default_factory=list)

    def message(self) -> Span:
        """As it is sent."""
        return Span(
            trace_id=trace_id(self.trace),
            span_id=span_id(self.span),
            parent_span_id=span_id(self.parent) if self.parent else b"",
            name=self.name,
            kind=self.kind,  # type: ignore[arg-type]
            start_time_unix_nano=START_NS + self.start,
            end_time_unix_nano=START_NS + self.start + self.duration,
            status=Status(code=self.code),  # type: ignore[arg-type]
            attributes=[KeyValue(key=key, value=VALUES[value]) for key, value in self.attributes],
        )

    def value(self, key: str) -> Value | None:
        """What a comparison is asked of."""
        fields: dict[str, Value | None] = {
            "service": self.service,
            "operation": self.name,
            "kind": KINDS.get(self.kind),
            "status": {1: "ok", 2: "error"}.get(self.code, "unset"),
            "error": self.code == 2,
            "duration": max(0, self.duration),
            "trace": trace_id(self.trace).hex(),
            "span": span_id(self.span).hex(),
        }
        if key in fields:
            return fields[key]
        attributes = {**dict(self.resource), "service.name": None, **dict(self.attributes)}
        if key == "service.name" and not dict(self.attributes).get(key):
            return self.service
        named = attributes.get(key)
        return None if named is None else PLAIN[named]

    def meets(self, query: Query) -> bool:
        """Whether it meets a query."""
        texts = [self.service, self.name, *(as_text(PLAIN[value]) for _, value in dict(self.attributes).items())]
        return all(
            one.holds(self.value(one.key)) if isinstance(one, Comparison) else one.holds(*texts) for one in query
        )


def _attributes(keys: tuple[str, ...], most: int) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(sorted(VALUES))), max_size=most)


SPANS = st.builds(
    ModelSpan,
    trace=st.integers(1, 8),
    span=st.integers(1, 6),
    parent=st.integers(0, 6),
    service=st.just(""),
    name=st.sampled_from(NAMES),
    kind=st.integers(0, 5),
    code=st.integers(0, 2),
    start=st.integers(0, 5) | st.integers(0, 3 * MINUTE_NS),
    duration=st.sampled_from([0, 1, 999, 1000, 5_000_000]),
    attributes=_attributes(("a", "b", "r"), 4),
)
REQUESTS = st.lists(
    st.tuples(st.sampled_from(SERVICES), _attributes(("r", "a"), 2), st.lists(SPANS, min_size=1, max_size=8)),
    min_size=1,
    max_size=3,
)
CONDITIONS = st.tuples(
    st.sampled_from(["", "NOT "]),
    st.one_of(
        st.sampled_from(
            ["error", "x", "ord", '"ä"', "5", "kind=*", "service=*s", "operation!=P*", "status!=ok", "kind=server"]
        ),
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["a", "b", "r", "never"]),
            st.sampled_from(["=", "!="]),
            st.sampled_from(["5", '"x y"', "*", "x*", "true", '""', "5.0", "1e-30", "inf", "AAE=", str(2**62)]),
        ),
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["a", "b", "r", "never", "duration"]),
            st.sampled_from([">", ">=", "<", "<="]),
            st.sampled_from(["5", "4.9", "0", "1us", "-3"]),
        ),
        st.builds("service={}".format, st.sampled_from(SERVICES)),
        st.builds("trace={}".format, st.integers(1, 3).map(lambda index: trace_id(index).hex())),
        st.builds("span={}".format, st.integers(1, 3).map(lambda index: span_id(index).hex())),
        st.builds("duration{}{}".format, st.sampled_from(["=", "!="]), st.sampled_from(["0", "999"])),
    ),
).map("".join)
QUERIES = st.lists(CONDITIONS, max_size=2).map(" ".join)


def _two_stores(stack: ExitStack) -> tuple[Store, Store]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    stores = Store(folder), Store(folder)
    for store in stores:
        stack.callback(store.close)
    return stores


class StoreMachine(RuleBasedStateMachine):
    """Adds, finds and lets go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        # So small that a few requests make blocks of all kinds.
        for name, number in {
            "CLOSED_RECORDS": 5,
            "OPEN_RECORDS": 9,
            "OPEN_BLOCKS": 4,
        }.items():
            self.stack.enter_context(patch.object(blocks, name, number))
        self.stack.enter_context(patch("observability.viewer.store.traces.MAX_PART_RECORDS", 8))
        self.stack.enter_context(patch("observability.viewer.store.arriving.MAX_REMEMBERED_SPANS", 12))
        self.store, self.other = _two_stores(self.stack)
        self.spans: dict[tuple[int, int], ModelSpan] = {}

    def teardown(self) -> None:
        """Close the file."""
        self.stack.close()

    @rule(groups=REQUESTS, to_other=st.sampled_from([False, False, False, True]))
    def add(self, groups: list[tuple[str, list[tuple[str, str]], list[ModelSpan]]], *, to_other: bool) -> None:
        """A request comes, to this process or to another one with the same file."""
        message = ExportTraceServiceRequest()
        for service, resource, spans in groups:
            resource_spans = message.resource_spans.add()
            resource_spans.resource.attributes.append(text("service.name", service))
            for key, value in resource:
                resource_spans.resource.attributes.append(KeyValue(key=key, value=VALUES[value]))
            scope_spans = resource_spans.scope_spans.add()
            for span in spans:
                span.service, span.resource = service, resource
                scope_spans.spans.append(span.message())
                self.spans.setdefault((span.trace, span.span), span)
        assert not (self.other if to_other else self.store).add_spans(message.SerializeToString())

    @precondition(lambda self: self.spans)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        """The traces that came first go."""
        with self.store._database.reading() as connection:
            numbers = dict(connection.execute("SELECT number, trace_id FROM traces ORDER BY number").fetchall())
        last: int = data.draw(st.sampled_from(sorted(numbers)))

        def evict(connection: sqlite3.Connection, *_bounds: float) -> int:
            retention._drop(connection, last)
            return last

        with patch("observability.viewer.store.store.evict", evict), self.store._writing():
            pass
        gone = {int.from_bytes(one) for number, one in numbers.items() if number <= last}
        self.spans = {key: span for key, span in self.spans.items() if span.trace not in gone}

    @precondition(lambda self: self.spans)
    @rule(
        texts=st.lists(QUERIES, min_size=5, max_size=10),
        limit=st.sampled_from([1, 2, 50, 50]),
        start=st.none() | st.integers(0, 4),
        end=st.none() | st.integers(2, 8),
    )
    def find(self, texts: list[str], limit: int, start: int | None, end: int | None) -> None:
        """A search finds what looking at everything finds, newest first."""
        for one in texts:
            self._find(parse(one), limit, start, end)

    def _find(self, query: Query, limit: int, start: int | None, end: int | None) -> None:
        expected = sorted(
            (
                (begin, trace)
                for trace, begin in self._starts().items()
                if (start is None or begin >= start)
                and (end is None or begin <= end)
                and any(span.meets(query) for span in self.spans.values() if span.trace == trace)
            ),
            reverse=True,
        )
        found = self.store.find(
            query,
            start_ns=None if start is None else START_NS + start,
            end_ns=None if end is None else START_NS + end,
            limit=limit,
        )
        assert found.complete
        told = [(one.start_ns - START_NS, int.from_bytes(one.trace_id)) for one in found.traces]
        # Traces that began at once may come in either order, and any of them within the limit.
        assert [begin for begin, _ in told] == [begin for begin, _ in expected][:limit]
        assert set(told) <= set(expected)
        assert len(set(told)) == len(told)

    @rule()
    def summaries(self) -> None:
        """Summaries count what is there."""
        for summary in self.store.find((), limit=50).traces:
            spans = [span for span in self.spans.values() if span.trace == int.from_bytes(summary.trace_id)]
            assert summary.spans == len(spans)
            assert summary.errors == sum(span.code == 2 for span in spans)
            assert {one[0] for one in summary.services} == {span.service for span in spans}
            assert summary.end_ns - START_NS == max(span.start + span.duration for span in spans)

    @invariant()
    def whole(self) -> None:
        """Each trace is there whole, as it was sent, and nothing else is."""
        traces = self._starts()
        assert self.store.counts() == (len(traces), len(self.spans))
        for trace in range(1, 9):
            held = {one.span_id: Span.FromString(one.span) for one in self.store.trace(trace_id(trace))}
            assert held == {span_id(span.span): span.message() for span in self.spans.values() if span.trace == trace}

    def _starts(self) -> dict[int, int]:
        starts: dict[int, int] = {}
        for span in self.spans.values():
            starts[span.trace] = min(span.start, starts.get(span.trace, span.start))
        return starts


class CountingMachine(RuleBasedStateMachine):
    """Adds in any order, and nothing goes: statistics and calls are those of all spans."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.store, self.other = _two_stores(self.stack)
        self.spans: dict[tuple[int, int], ModelSpan] = {}

    def teardown(self) -> None:
        """Close the file."""
        self.stack.close()

    add = StoreMachine.add

    @invariant()
    def statistics(self) -> None:
        """Operations are counted by minute."""
        counted: dict[tuple[str, str, int, int], list[int]] = {}
        for span in self.spans.values():
            minute = (START_NS + span.start) // MINUTE_NS * MINUTE_NS
            count = counted.setdefault((span.service, span.name, span.kind, minute), [0, 0])
            count[0] += 1
            count[1] += span.code == 2
        told = {
            (one.service, one.operation, one.kind, minute.start_ns): [minute.calls, minute.errors]
            for one in self.store.operations_between(0, 2**63 - 1)
            for minute in one.minutes
        }
        assert told == counted
        for one in self.store.operations_between(0, 2**63 - 1):
            durations = [
                max(0, span.duration)
                for span in self.spans.values()
                if (span.service, span.name, span.kind) == (one.service, one.operation, one.kind)
            ]
            assert sum(bucket.calls for bucket in one.durations) == len(durations) == one.calls
            for bucket in one.durations:
                assert sum(bucket.from_ns <= duration < bucket.to_ns for duration in durations) == bucket.calls

    @invariant()
    def calls(self) -> None:
        """A call is counted once, whichever of its spans came first."""
        expected: dict[tuple[str, str, bool], list[int]] = {}
        for span in self.spans.values():
            parent = self.spans.get((span.trace, span.parent))
            if parent and parent.service != span.service:
                messaging = parent.kind == 4 or span.kind == 5
                count = expected.setdefault((parent.service, span.service, messaging), [0, 0])
                count[0] += 1
                count[1] += span.code == 2
        told = {
            (one.caller, one.callee, one.messaging): [one.calls, one.errors]
            for one in self.store.calls_between(0, 2**63 - 1)
        }
        assert told == expected


TestStore = pytest.mark.timeout(240)(StoreMachine.TestCase)
TestStore.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestCounts = pytest.mark.timeout(240)(CountingMachine.TestCase)
TestCounts.settings = settings(max_examples=25, stateful_step_count=8, deadline=None)
