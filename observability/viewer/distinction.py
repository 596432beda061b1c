"""What sets some traces apart: the attributes that they have more often than the rest.

A trace has an attribute if one of its spans has it, or that span's resource. What is ranked is the difference of the
two shares, as Grafana's drilldown and Honeycomb's BubbleUp do, of values that are there often enough, and whose
difference is no chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from observability.viewer.query import Comparison, Query, as_text, parse
from observability.viewer.store import Store
from observability.viewer.store.attributes import decode
from observability.viewer.store.fields import ERROR, MAX_NAME, service_name
from observability.viewer.store.records import Reader
from observability.viewer.store.stored import Summary
from observability.viewer.store.wire import parse_span

MAX_TRACES = 300
"""Of each side; the newest are looked at."""

FEWEST = 5
"""Traces on a side; of fewer nothing is told."""

MOST, MOST_OF_A_KEY = 10, 3
"""Attributes that are told, and of each as many that come with it."""

# What a connection and a thread are called: who shares one has begun at the same time, and no more.
_BY_CHANCE = frozenset({"client.port", "network.peer.port", "net.peer.port", "thread.id", "thread.name"})
_ERRORS = parse("error")
_PARTS = 10  # of a time, in each of which others are looked for
_MAX_TEXT = 256  # characters of a value
_MAX_VALUES = 20_000
_LEAST_TRACES, _LEAST_SHARE = 3, 0.1  # of the selection, that have a value
_LEAST_SIGMAS = 3.0
_TOGETHER = 0.9  # of the traces that have either of two values: who have both

Kind: TypeAlias = Literal["query", "errors", "box"]
Value: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traces are set apart from which: times are nanoseconds since 1970, durations nanoseconds.

    `query`: those that meet the query, from all others of the same time. The others are set apart from the rest of
    those that meet the query: `errors` those with errors, `box` those that began within a time and took so long.
    """

    kind: Kind
    query: Query
    start_ns: int | None
    end_ns: int | None
    from_ns: int = 0
    to_ns: int = 0
    shortest_ns: int = 0
    longest_ns: int | None = None

    def has(self, trace: Summary) -> bool:
        """Whether a trace is selected, of those that meet the query."""
        match self.kind:
            case "query":
                return True
            case "errors":
                return trace.errors > 0
            case "box":
                duration = trace.end_ns - trace.start_ns
                return self.from_ns <= trace.start_ns <= self.to_ns and (
                    self.shortest_ns <= duration and (self.longest_ns is None or duration <= self.longest_ns)
                )


class _Values:
    """Which traces have which values: sets of them are integers, whose bits they are."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self._reader = Reader()
        self._decoded: dict[bytes, Value | None] = {}
        self._resources: dict[bytes, tuple[str, list[Value]]] = {}
        self.has: dict[Value, int] = {}
        self.meeting: dict[Value, int] = {}
        """Of the traces above those of which a span has the value and meets the query."""
        self.full = False
        """Whether only values count that are known."""

    def add(self, trace: int, encoded: bytes, resource: bytes) -> None:
        """Add a span of a trace."""
        bit = 1 << trace
        meets = bool(self.query) and self._reader.span(encoded, resource).meets(self.query)
        for value in self._of(encoded, resource):
            if self.full and value not in self.has:
                continue
            self.has[value] = self.has.get(value, 0) | bit
            if meets:
                self.meeting[value] = self.meeting.get(value, 0) | bit
        if len(self.has) > _MAX_VALUES and not self.full:
            self.keep(lambda traces: traces & (traces - 1) != 0)  # those of more than one trace
            self.full = len(self.has) > _MAX_VALUES // 2

    def keep(self, condition: Callable[[int], bool]) -> None:
        """Forget the values of whose traces this is not so."""
        self.has = {value: traces for value, traces in self.has.items() if condition(traces)}
        self.meeting = {value: traces for value, traces in self.meeting.items() if value in self.has}

    def _of(self, encoded: bytes, resource: bytes) -> Iterator[Value]:
        span = parse_span(encoded)
        service, of_resource = self._resource(resource)
        yield "service", service
        yield "operation", span.name[:MAX_NAME]
        if span.status.code == ERROR:
            yield "error", "true"
        for attribute in span.attributes:
            value = self._value(attribute)
            if value:
                yield value
        yield from of_resource

    def _value(self, attribute: bytes) -> Value | None:
        if attribute not in self._decoded:
            if len(self._decoded) > _MAX_VALUES:
                self._decoded.clear()
            key, value = decode(attribute)
            text = as_text(value)
            self._decoded[attribute] = (key, text) if len(text) <= _MAX_TEXT and key not in _BY_CHANCE else None
        return self._decoded[attribute]

    def _resource(self, encoded: bytes) -> tuple[str, list[Value]]:
        if encoded not in self._resources:
            if len(self._resources) > _MAX_VALUES // 100:
                self._resources.clear()
            resource = Resource.FromString(encoded)
            values = [self._value(attribute.SerializeToString()) for attribute in resource.attributes]
            self._resources[encoded] = service_name(resource), [value for value in values if value]
        return self._resources[encoded]


def distinction_json(store: Store, selection: Selection) -> dict[str, Any]:
    """How many traces are selected and how many are not, and what sets them apart, the greatest difference first.

    `selected` and `rest` are the traces that were looked at and, of an attribute, those that have it. `alike` are
    others that nearly the same traces have, some of so `many`. `adds` says whether an attribute can be added to the
    query, which one span has to meet: whether who has the one has it in a span that meets the other.
    """
    chosen, others, complete = _sides(store, selection)
    values = _Values(selection.query)
    selected = store.visit(_ids(chosen), values.add)
    least = max(_LEAST_TRACES, _LEAST_SHARE * selected)
    values.keep(lambda traces: traces.bit_count() >= least)
    values.full = True
    rest = store.visit(_ids(others), lambda trace, *span: values.add(selected + trace, *span))
    told: dict[str, Any] = {
        "selected": selected,
        "rest": rest,
        "complete": complete and (selected, rest) == (len(chosen), len(others)),
        "attributes": [],
    }
    if min(selected, rest) >= FEWEST:
        roots = {("operation", trace.root.name) for trace in chosen}
        told["attributes"] = _told(values, _said(selection), roots, selected, rest)
    return told


def _sides(store: Store, selection: Selection) -> tuple[list[Summary], list[Summary], bool]:
    """The traces that are selected and those that are not, the newest first; whether these are all."""
    # Errors may be so rare that hardly one is among the newest traces.
    query = selection.query or (_ERRORS if selection.kind == "errors" else ())
    most = 2 * MAX_TRACES
    found = store.find(query, start_ns=selection.start_ns, end_ns=selection.end_ns, limit=most)
    complete = found.complete and len(found.traces) < most
    chosen = [trace for trace in found.traces if selection.has(trace)]
    if selection.kind == "query" or query != selection.query:
        complete = complete and len(chosen) <= MAX_TRACES
        chosen = chosen[:MAX_TRACES]
        rest, all_of_them = _others(store, selection, chosen, complete=complete)
        return chosen, rest, complete and all_of_them
    known = set(_ids(chosen))
    rest = [trace for trace in found.traces if trace.trace_id not in known]
    return chosen[:MAX_TRACES], rest[:MAX_TRACES], complete and max(len(chosen), len(rest)) <= MAX_TRACES


def _others(
    store: Store, selection: Selection, chosen: Sequence[Summary], *, complete: bool
) -> tuple[list[Summary], bool]:
    """Traces of the time of those that are chosen, spread over it as these are; whether these are all.

    If the chosen ones are `complete`, it is the whole time that is asked for.
    """
    known = set(_ids(chosen))

    def others(start_ns: int | None, end_ns: int | None, most: int) -> tuple[list[Summary], bool]:
        found = store.find((), start_ns=start_ns, end_ns=end_ns, limit=most)
        rest = [trace for trace in found.traces if trace.trace_id not in known]
        return rest, found.complete and len(found.traces) < most

    begin_ns, end_ns = selection.start_ns, selection.end_ns
    if chosen and not complete:
        begin_ns = chosen[-1].start_ns
    rest, all_of_them = others(begin_ns, end_ns, len(chosen) + MAX_TRACES)
    if all_of_them or not chosen:
        return rest, all_of_them
    parts = min(_PARTS, len(chosen))
    spread: list[Summary] = []
    for number in range(1, parts + 1):
        part = chosen[len(chosen) * (number - 1) // parts : len(chosen) * number // parts]
        start_ns = begin_ns if number == parts else part[-1].start_ns
        some, _ = others(start_ns, end_ns, len(part) + MAX_TRACES // parts)
        spread += some[: MAX_TRACES // parts]
        end_ns = part[-1].start_ns - 1
    return spread, False


def _ids(traces: Sequence[Summary]) -> list[bytes]:
    return [trace.trace_id for trace in traces]


@dataclass(slots=True)
class _Distinct:
    """A value that sets traces apart, and those that nearly the same traces have."""

    value: Value
    traces: int
    difference: float
    alike: list[Value] = field(default_factory=list)

    def is_alike(self, traces: int) -> bool:
        return (self.traces & traces).bit_count() >= _TOGETHER * (self.traces | traces).bit_count()


def _told(values: _Values, said: Set[Value], roots: Set[Value], selected: int, rest: int) -> list[dict[str, Any]]:
    chosen = (1 << selected) - 1

    def adds(value: Value) -> bool:
        meeting = values.meeting.get(value, 0) & chosen
        return not values.query or meeting.bit_count() >= _TOGETHER * (values.has[value] & chosen).bit_count()

    def attribute_json(value: Value) -> dict[str, Any]:
        return {"key": value[0], "value": value[1], "adds": adds(value)}

    ranked = []
    for value, traces in values.has.items():
        with_it = (traces & chosen).bit_count(), (traces & ~chosen).bit_count()
        if value not in said and _is_no_chance(*with_it, selected, rest):
            ranked.append(_Distinct(value, traces, with_it[0] / selected - with_it[1] / rest))
    # Of those that make the same difference first what the reader knows best, and what leads on.
    ranked.sort(
        key=lambda one: (
            -one.difference,
            one.value not in roots,
            not adds(one.value),
            one.value[0] not in ("operation", "service"),
            one.value,
        )
    )
    told: list[_Distinct] = []
    keys = Counter[str]()
    for one in ranked:
        like = next((other for other in told if other.is_alike(one.traces)), None)
        if like:
            like.alike.append(one.value)
        elif len(told) < MOST and keys[one.value[0]] < MOST_OF_A_KEY:
            told.append(one)
            keys[one.value[0]] += 1
    return [
        {
            **attribute_json(one.value),
            "selected": (one.traces & chosen).bit_count(),
            "rest": (one.traces & ~chosen).bit_count(),
            "alike": [attribute_json(value) for value in one.alike[:MOST]],
            "many": len(one.alike),
        }
        for one in told
    ]


def _said(selection: Selection) -> set[Value]:
    """What is known of those that are selected."""
    said = {
        (condition.key, condition.exact)
        for condition in selection.query
        if isinstance(condition, Comparison) and condition.exact is not None
    }
    return said | ({("error", "true")} if selection.kind == "errors" else set())


def _is_no_chance(with_it: int, others_with_it: int, selected: int, rest: int) -> bool:
    """Whether it is more frequent among the selected by so much that chance hardly ever makes it (two proportions)."""
    pooled = (with_it + others_with_it) / (selected + rest)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / selected + 1 / rest))
    return with_it / selected - others_with_it / rest > _LEAST_SIGMAS * deviation
