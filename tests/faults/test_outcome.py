"""What the drill asks for fails where it does not hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drills.outcome import Calls, Outcome, Resources
from observability.load.load import Answer, Request


def _answer(sent: float, seconds: float, status: int | None) -> Answer:
    return Answer(Request("POST", "http://localhost/orders"), sent, seconds, status)


GOOD = Outcome(
    name="nothing",
    harmless=True,
    answers=[_answer(float(number), 0.1, 201) for number in range(200)],
    calls=Calls(attempts=200, retries=0, refusals=0, changes={}),
    recovered_s=0.0,
    before={"orders": Resources(100 * 2**20, 20, 5)},
    after={"orders": Resources(100 * 2**20, 20, 5)},
    trace="",
)


def _with(*answers: Answer) -> Outcome:
    return replace(GOOD, harmless=False, answers=[*GOOD.answers, *answers])


def test_good() -> None:
    """Where all is well nothing is told."""
    assert list(GOOD.failures()) == []


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (_with(*[_answer(0.0, 7.0, 504)] * 3), "p99 is 7.0 s, the deadline 6 s"),
        (replace(GOOD, calls=Calls(261, 61, 0, {})), "261 attempts for 200 calls"),
        (replace(GOOD, recovered_s=None), "not recovered within 10 s of the fault's end"),
        (_with(_answer(0.0, 0.1, 500)), "1 answers of 500, 0 requests without an answer"),
        (_with(_answer(0.0, 0.1, None)), "0 answers of 500, 1 requests without an answer"),
        (replace(_with(_answer(0.0, 0.1, 503)), harmless=True), "1 customers noticed"),
        (replace(GOOD, after={"orders": Resources(200 * 2**20, 20, 5)}), "orders has 100 MiB more memory"),
        (replace(GOOD, after={"orders": Resources(100 * 2**20, 520, 5)}), "orders has 500 sockets more"),
        (replace(GOOD, after={"orders": Resources(100 * 2**20, 20, 55)}), "orders has 50 tasks more"),
    ],
)
def test_bad(outcome: Outcome, failure: str) -> None:
    """Each thing that does not hold is told by its figures."""
    assert list(outcome.failures()) == [failure]


def test_calls() -> None:
    """A call is counted once, whatever its retries and whether it left at all."""
    before = Calls(attempts=10, retries=1, refusals=0, changes={"open": 1, "closed": 1})
    after = Calls(attempts=25, retries=6, refusals=5, changes={"open": 2, "closed": 1})
    since = after.since(before)
    assert (since.calls, since.changes) == (15, {"open": 1})
