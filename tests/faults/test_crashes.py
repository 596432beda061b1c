"""What the crash drill asks for fails where it does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest

from drills.books import Books, OrderEntry
from drills.crashes import CrashOutcome, _wrong

ENTRY = OrderEntry("mug", "confirmed", "a" * 32, 0, 1)
GOOD = CrashOutcome(
    name="crashes",
    kills=Counter({"orders": 1}),
    accepted=frozenset({"1"}),
    statuses=Counter({"201": 1, "502": 3, "none": 2}),
    books=Books({"1": ENTRY}, {"1": ("mug", 1)}, frozenset({"1"}), frozenset({"1"}), {"mug": 1}, {"orders": 0}),
    settled_s=1.0,
    duplicates=1.0,
    needs_duplicates=True,
    dead_letters=0,
    more_than_one=0,
    whole=3,
    torn=2,
    broken=[],
)

SPANS = {
    "orders POST /orders": None,
    "orders create order.placed": "orders POST /orders",
    "shipping process order.placed": "orders create order.placed",
    "shipping create shipment.created": "shipping process order.placed",
    "orders process shipment.created": "shipping create shipment.created",
}
"""The spans of a confirmed order, and the parent of each."""


def _answer(parents: Mapping[str, str | None]) -> httpx.Response:
    """A trace as the viewer tells it."""
    ids = {name: f"{number:016x}" for number, name in enumerate({**parents, "a lost one": None}, 1)}
    spans = [
        {
            "traceID": ENTRY.trace_id,
            "spanID": ids[name],
            "references": []
            if parent is None
            else [{"refType": "CHILD_OF", "traceID": ENTRY.trace_id, "spanID": ids[parent]}],
            "operationName": name.partition(" ")[2],
            "processID": name.partition(" ")[0],
            "startTime": 0,
            "tags": [],
        }
        for name, parent in parents.items()
    ]
    processes = {name: {"serviceName": name} for name in ("orders", "shipping")}
    return httpx.Response(200, json={"data": [{"spans": spans, "processes": processes}]})


def test_good() -> None:
    """Where all is well nothing is told; traces that a kill has torn are no failure."""
    assert list(GOOD.failures()) == []
    assert list(replace(GOOD, duplicates=0.0, needs_duplicates=False).failures()) == []


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (replace(GOOD, settled_s=None), "not settled within 180 s"),
        (replace(GOOD, accepted=frozenset({"1", "2"})), "1 accepted orders are lost"),
        (replace(GOOD, duplicates=0.0), "no event was delivered twice, so that nothing was shown"),
        (replace(GOOD, statuses=Counter({"201": 1, "500": 2})), "2 answers of 500"),
        (replace(GOOD, dead_letters=1), "1 events died in a consumer"),
        (replace(GOOD, more_than_one=1), "1 orders too many for their Idempotency-Keys"),
        (replace(GOOD, whole=1), "only 1 traces are whole, and 2 miss spans"),
        (replace(GOOD, broken=["the trace of order 1 is not there"]), "the trace of order 1 is not there"),
    ],
)
def test_bad(outcome: CrashOutcome, failure: str) -> None:
    """Each thing that does not hold is told, what is wrong with the books too."""
    assert list(outcome.failures()) == [failure]


def test_whole_trace() -> None:
    """A trace from the request to the confirmation is whole, and so is a shorter one of a cancelled order."""
    assert _wrong(_answer(SPANS), ENTRY) is None
    assert _wrong(_answer({"orders POST /orders": None}), replace(ENTRY, state="cancelled")) is None


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (httpx.Response(404), "is not there"),
        (
            _answer(SPANS | {"shipping process order.placed": None}),
            "has these roots: ['orders POST /orders', 'shipping process order.placed']",
        ),
        (_answer(SPANS | {"shipping process order.placed": "a lost one"}), "has spans without their parents"),
        (_answer({"orders POST /orders": None}), "does not go on to the shipment"),
        (_answer(dict([*SPANS.items()][:-1])), "does not go on to the shipment"),
    ],
)
def test_broken_trace(answer: httpx.Response, wrong: str) -> None:
    """A trace that is missing, in several pieces, or ends too early is found out."""
    assert _wrong(answer, ENTRY) == wrong
