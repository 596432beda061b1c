"""One trace against what is usual for its request: what is new in it, what it lacks, and what took longer.

The trees of the others are merged by service, operation, and position among those of one parent that have both the
same, as the page of two traces merges them. Durations and times from the start of a trace are nanoseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from observability.viewer.store.calls import Operation
from observability.viewer.store.outline import Alike, Outline, OutlineSpan

FEWEST = 5
"""Of fewer others nothing is called usual."""

# A span takes unusually long if hardly one takes as long, and it makes a difference: it took this much longer than in
# the middle, and by more than this share of the longer trace.
_FACTOR, _SHARE = 1.2, 0.01
_LOW, _MIDDLE, _HIGH = 0.05, 0.5, 0.95
_RARE = 0.1  # of the others: what fewer have is not usual
_MOST = 0.5  # of the others: what more have is missed

State: TypeAlias = Literal["added", "rare", "missing", "slower", "faster", "same"]
_Key: TypeAlias = tuple[Operation, int]


@dataclass(slots=True)
class _Place:
    """A place in the merged tree, of each trace that has it a figure; `span` is that of the trace that is compared."""

    operation: Operation
    below: dict[_Key, _Place] = field(default_factory=dict)
    span: OutlineSpan | None = None
    own_ns: int = 0
    starts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    own: array[int] = field(default_factory=lambda: array("q"))


def usual_json(alike: Alike) -> dict[str, Any]:
    """A trace beside its request's usual shape; `places` is empty if the others are too few for one.

    A place is told if the trace has it or most of the others do, parents first. Its `state` is that of the trace:
    `added` and `rare` if none or few of the others have it, `missing` if only the others do.
    """
    others = alike.others
    root = _Place(Operation("", "", 0))
    for outline in others:
        for place, span, own_ns in _placed(root, outline):
            place.starts.append(span.start_ns - outline[0].start_ns)
            place.durations.append(_length(span))
            place.own.append(own_ns)
    lengths = sorted(_total(outline) for outline in others)
    told: dict[str, Any] = {
        "traces": len(others),
        "complete": alike.complete,
        "from": min((outline[0].start_ns for outline in others), default=0) // 1000,
        "to": max((outline[0].start_ns for outline in others), default=0) // 1000,
        "duration": _quantiles(lengths),
        "places": [],
    }
    if len(others) < FEWEST:
        return told
    for place, span, own_ns in _placed(root, alike.trace):
        place.span, place.own_ns = span, own_ns
    least = round(_SHARE * max(_total(alike.trace), _quantile(lengths, _MIDDLE)))
    told["places"] = [_place_json(place, level, len(others), least) for place, level in _in_order(root, len(others))]
    return told


def _placed(root: _Place, outline: Outline) -> Iterator[tuple[_Place, OutlineSpan, int]]:
    """The spans of a trace with their places, which are made where they are new, and their own times."""
    known = {span.span_id for span in outline}
    children: dict[bytes, list[OutlineSpan]] = {}
    for span in outline:
        children.setdefault(span.parent_id if span.parent_id in known else b"", []).append(span)
    # Those without a parent come before those whose parent has not come.
    roots = sorted(children.get(b"", ()), key=lambda span: bool(span.parent_id))
    pending: list[tuple[_Place, Sequence[OutlineSpan]]] = [(root, roots)]
    while pending:
        above, spans = pending.pop()
        alike: dict[Operation, int] = {}
        for span in spans:
            position = alike[span.operation] = alike.get(span.operation, -1) + 1
            place = above.below.setdefault((span.operation, position), _Place(span.operation))
            below = children.get(span.span_id, ())
            yield place, span, _own_time(span, below)
            if below:
                pending.append((place, below))


def _own_time(span: OutlineSpan, children: Sequence[OutlineSpan]) -> int:
    """The time in which none of its children, which are in order, is at work."""
    own, at = _length(span), span.start_ns
    for child in children:
        start, end = max(at, child.start_ns), min(child.end_ns, span.end_ns)
        if end > start:
            own -= end - start
            at = end
    return own


def _in_order(root: _Place, others: int) -> Iterator[tuple[_Place, int]]:
    """The places that are told and their levels, those of one parent by when they begin after it."""
    pending: list[tuple[_Place, int]] = [(root, 0)]
    while pending:
        above, level = pending.pop()
        if level:
            yield above, level
        shown = [one for one in above.below.values() if one.span or len(one.durations) > _MOST * others]
        begin = {id(one): _begin(one, above) for one in shown}
        pending += [(one, level + 1) for one in sorted(shown, key=lambda one: begin[id(one)], reverse=True)]


def _begin(place: _Place, above: _Place) -> int:
    if place.span:
        return place.span.start_ns - (above.span.start_ns if above.span else 0)
    return _middle(place.starts) - _middle(above.starts)


def _place_json(place: _Place, level: int, others: int, least: int) -> dict[str, Any]:
    durations, own = sorted(place.durations), sorted(place.own)
    return {
        "span": place.span.span_id.hex() if place.span else None,
        "level": level,
        "service": place.operation.service,
        "name": place.operation.name,
        "traces": len(durations),
        "start": _middle(place.starts),
        "duration": _quantiles(durations),
        "state": _state(place, durations, others, least),
        "difference": _difference(place, own),
    }


def _state(place: _Place, durations: Sequence[int], others: int, least: int) -> State:
    if not place.span:
        return "missing"
    if not durations:
        return "added"
    if len(durations) < max(FEWEST, _RARE * others):
        return "rare"
    took = _length(place.span)
    low, middle, high = (_quantile(durations, share) for share in (_LOW, _MIDDLE, _HIGH))
    if took > high and took > middle * _FACTOR and took - middle >= least:
        return "slower"
    if took < low and middle > took * _FACTOR and middle - took >= least:
        return "faster"
    return "same"


def _difference(place: _Place, own: Sequence[int]) -> int:
    """How much more time of its own it took than in the middle; 0 where that is as usual."""
    usual = _quantile(own, _MIDDLE) if own else 0
    if not place.span:
        return -usual
    if own and _quantile(own, _LOW) <= place.own_ns <= _quantile(own, _HIGH):
        return 0
    return place.own_ns - usual


def _quantiles(ordered: Sequence[int]) -> dict[str, int] | None:
    shares = {"p5": _LOW, "p50": _MIDDLE, "p95": _HIGH}
    return {name: _quantile(ordered, share) for name, share in shares.items()} if ordered else None


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The nearest of these in order."""
    return ordered[round(share * (len(ordered) - 1))]


def _middle(values: Sequence[int]) -> int:
    return _quantile(sorted(values), _MIDDLE) if values else 0


def _length(span: OutlineSpan) -> int:
    return max(0, span.end_ns - span.start_ns)


def _total(outline: Outline) -> int:
    return max(0, max(span.end_ns for span in outline) - outline[0].start_ns)
