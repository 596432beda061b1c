"""A trace against the usual shape of its request."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store import Store, outline
from observability.viewer.usual import FEWEST, usual_json
from tests.observability.viewer.samples import add, span, trace_id

MS = 1_000_000
SECOND = 1000 * MS


def _order(trace: int, *steps: tuple[str, int], root: str = "POST /orders") -> list[Span]:
    """A trace of an order, a second after the one before, of steps one after the other of so many milliseconds."""
    at = trace * SECOND
    spans = []
    for number, (name, length) in enumerate(steps, 2):
        spans.append(span(trace, number, 1, name=name, start_ns=at, end_ns=at + length * MS))
        at += length * MS
    return [span(trace, 1, name=root, start_ns=trace * SECOND, end_ns=at), *spans]


def _usual(store: Store, trace: int) -> dict[str, Any]:
    alike = store.alike(trace_id(trace))
    assert alike is not None
    return usual_json(alike)


def _states(told: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(place["name"], place["state"], place["traces"]) for place in told["places"]]


def test_states(store: Store) -> None:
    """What none, few or most of the others have is told of the trace, and what took longer or less than hardly any."""
    for trace in range(1, 21):
        rare = [("retry", 1)] if trace == 7 else []
        add(store, *_order(trace, ("reserve", 10 + trace % 3), ("pay", 20), ("cheer", 5), ("ship", 30), *rare))
    add(store, *_order(21, ("reserve", 12), ("pay", 100), ("pay", 100), ("ship", 3), ("retry", 1)))
    told = _usual(store, 21)
    assert _states(told) == [
        ("POST /orders", "slower", 20),
        ("reserve", "same", 20),
        ("pay", "slower", 20),
        ("cheer", "missing", 20),
        ("pay", "added", 0),
        ("ship", "faster", 20),
        ("retry", "rare", 1),
    ]
    assert (told["traces"], told["complete"]) == (20, True)
    reserve, pay = told["places"][1:3]
    assert reserve["duration"] == {"p5": 10 * MS, "p50": 11 * MS, "p95": 12 * MS}
    assert (reserve["start"], pay["start"], reserve["level"]) == (0, 11 * MS, 2)
    assert [place["difference"] // MS for place in told["places"]] == [0, 0, 80, -5, 100, -27, 0]


def test_what_hardly_matters(store: Store) -> None:
    """What took many times as long is as usual where that is next to nothing of the trace."""
    for trace in range(1, 11):
        add(store, *_order(trace, ("look up", 1), ("pay", 1000)))
    add(store, *_order(11, ("look up", 5), ("pay", 1000)))
    assert [state for _, state, _ in _states(_usual(store, 11))] == ["same", "same", "same"]


def test_too_few(store: Store) -> None:
    """Few others have no usual shape."""
    for trace in range(1, FEWEST + 1):
        add(store, *_order(trace, ("pay", 20)))
    told = _usual(store, 1)
    assert (told["traces"], told["places"]) == (FEWEST - 1, [])
    add(store, *_order(FEWEST + 1, ("pay", 20)))
    assert len(_usual(store, 1)["places"]) == 2


def test_alone(store: Store) -> None:
    """A trace without any like it is beside none."""
    add(store, *_order(1, ("pay", 20)))
    told = _usual(store, 1)
    assert (told["traces"], told["duration"], told["places"]) == (0, None, [])


def test_deep_and_odd(store: Store) -> None:
    """Spans whose parent has not come stand beside the root, circles are left out, and depth has no limit."""
    for trace in range(1, 8):
        add(
            store,
            *(span(trace, depth, depth - 1 or None, start_ns=trace * SECOND) for depth in range(1, 500)),
            span(trace, 3000, 4000, name="orphan", start_ns=trace * SECOND + 5),
            span(trace, 3001, 3002, name="circle"),
            span(trace, 3002, 3001, name="circle"),
        )
    places = _usual(store, 7)["places"]
    assert len(places) == 500
    assert [place["name"] for place in places if place["level"] == 1] == ["GET /", "orphan"]
    assert max(place["level"] for place in places) == 499


def test_own_time(store: Store) -> None:
    """The time of its own is where no child is at work, however these lie; only that makes a difference."""
    for trace in range(1, 8):
        at, slow = trace * SECOND, 10 * MS if trace == 7 else 0
        add(
            store,
            span(trace, 1, start_ns=at, end_ns=at + 100 * MS + slow),
            span(trace, 2, 1, name="a", start_ns=at - MS, end_ns=at + 50 * MS),
            span(trace, 3, 1, name="b", start_ns=at + 40 * MS, end_ns=at + 60 * MS),
            span(trace, 4, 1, name="c", start_ns=at + 45 * MS, end_ns=at + 55 * MS),
            span(trace, 5, 1, name="d", start_ns=at + 80 * MS, end_ns=at + 500 * MS),
        )
    assert [place["difference"] for place in _usual(store, 7)["places"]] == [0, 0, 0, 0, 0]
    add(store, *(span(8, 1, start_ns=8 * SECOND, end_ns=8 * SECOND + 90 * MS),))
    assert [place["difference"] // MS for place in _usual(store, 8)["places"] if place["span"]] == [70]


def test_which_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are the latest before it whose root is the same, then later ones; not where it is only a span."""
    monkeypatch.setattr(outline, "MAX_ALIKE", 3)
    for trace in (1, 2, 4, 5, 6):
        add(store, *_order(trace, ("pay", trace)))
    add(store, *_order(3, ("pay", 3), root="GET /"), service="other")
    add(store, *_order(7, ("POST /orders", 7), root="PUT /orders"))

    def others(trace: int) -> list[int]:
        alike = store.alike(trace_id(trace))
        assert alike is not None
        assert alike.complete
        return [(one[-1].end_ns - one[-1].start_ns) // MS for one in alike.others]

    assert others(6) == [5, 4, 2]
    assert others(2) == [1, 6, 5]


def test_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at a time, and at a number of spans, and says so."""
    for trace in range(1, 8):
        add(store, *_order(trace, ("pay", 20)))
    monkeypatch.setattr(outline, "MAX_SPANS", 2 + 5 * 2)
    told = _usual(store, 7)
    assert (told["traces"], told["complete"], len(told["places"])) == (5, False, 2)
    monkeypatch.setattr(outline, "TIME_LIMIT_S", -1.0)
    assert _usual(store, 7)["traces"] == 0


def test_unknown(store: Store) -> None:
    """A trace that is not kept has none alike."""
    assert store.alike(trace_id(1)) is None
