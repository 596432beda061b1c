"""Leaving alone what fails too often."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from observability.resilience.breaker import (
    Admission,
    Breaker,
    BreakerOptions,
    CircuitBreaker,
    Outcome,
    State,
    _Window,
)
from observability.resilience.decisions import BreakerChanged, Decision, Refusing
from observability.resilience.errors import AttemptTimedOut, BreakerOpen, BulkheadFull
from tests.observability.resilience.conftest import Answer, Dependency

pytestmark = pytest.mark.anyio

OPTIONS = BreakerOptions(failure_ratio=0.5, window_s=10, min_attempts=4, open_s=5)


def _breaker() -> tuple[Breaker, list[tuple[State, State, str]]]:
    changes: list[tuple[State, State, str]] = []
    return Breaker(OPTIONS, lambda *change: changes.append(change)), changes


def _attempt(breaker: Breaker, outcome: Outcome, now: float = 0.0) -> None:
    admission = breaker.admit(now)
    assert admission is not None
    breaker.settle(admission, outcome, now)


def _opened(now: float = 0.0) -> Breaker:
    breaker, _ = _breaker()
    for _ in range(4):
        _attempt(breaker, Outcome.FAILURE, now)
    assert breaker.state is State.OPEN
    return breaker


def test_opens_at_the_ratio() -> None:
    """It opens when the share of failures is reached, and says why."""
    breaker, changes = _breaker()
    for outcome in (Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILURE):
        _attempt(breaker, outcome)
    assert breaker.state is State.CLOSED
    _attempt(breaker, Outcome.FAILURE)
    assert changes == [(State.CLOSED, State.OPEN, "2 of 4 attempts failed")]


def test_needs_enough_attempts() -> None:
    """A few failures of a dependency that is seldom asked do not open it."""
    breaker, _ = _breaker()
    for _ in range(3):
        _attempt(breaker, Outcome.FAILURE)
    assert breaker.state is State.CLOSED


def test_success_does_not_open() -> None:
    """A success is never the attempt that opens it."""
    breaker, _ = _breaker()
    for _ in range(3):
        _attempt(breaker, Outcome.FAILURE)
    _attempt(breaker, Outcome.SUCCESS)
    assert breaker.state is State.CLOSED


def test_window_slides() -> None:
    """Failures that are older than the window count no longer."""
    breaker, _ = _breaker()
    for _ in range(3):
        _attempt(breaker, Outcome.FAILURE, now=0)
    for _ in range(3):
        _attempt(breaker, Outcome.FAILURE, now=11)
    assert breaker.state is State.CLOSED


def test_neutral_counts_for_nothing() -> None:
    """What tells nothing of the dependency neither opens it nor makes up for failures."""
    breaker, _ = _breaker()
    for outcome in [Outcome.NEUTRAL] * 100 + [Outcome.FAILURE] * 4:
        _attempt(breaker, outcome)
    assert breaker.state is State.OPEN


def test_one_probe_of_a_thousand() -> None:
    """Of however many attempts that come when it is time, exactly one is let through."""
    breaker = _opened()
    assert breaker.admit(4.9) is None
    admissions = [breaker.admit(5.0) for _ in range(1000)]
    assert [admission for admission in admissions if admission is not None] == admissions[:1]
    assert breaker.state is State.HALF_OPEN


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCESS, State.CLOSED),
        (Outcome.FAILURE, State.OPEN),
        (Outcome.NEUTRAL, State.HALF_OPEN),
    ],
)
def test_probe(outcome: Outcome, state: State) -> None:
    """The probe decides; one that tells nothing gives its place to the next."""
    breaker = _opened()
    _attempt(breaker, outcome, now=5.0)
    assert breaker.state is state
    assert (breaker.admit(5.1) is None) is (state is State.OPEN)


def test_failed_probe_begins_anew() -> None:
    """After a failed probe it stays open as long again."""
    breaker = _opened()
    _attempt(breaker, Outcome.FAILURE, now=6.0)
    assert breaker.admit(10.9) is None
    assert breaker.retry_after(10.0) == pytest.approx(1.0)
    assert breaker.admit(11.0) is not None


def test_closed_starts_from_nothing() -> None:
    """After it has closed, the failures that opened it are forgotten."""
    breaker = _opened()
    _attempt(breaker, Outcome.SUCCESS, now=5.0)
    _attempt(breaker, Outcome.FAILURE, now=5.0)
    assert breaker.state is State.CLOSED


def test_late_answer_decides_nothing() -> None:
    """The answer to an attempt that an earlier state let through does not count."""
    breaker, _ = _breaker()
    late = breaker.admit(0.0)
    assert late is not None
    for _ in range(4):
        _attempt(breaker, Outcome.FAILURE)
    probe = breaker.admit(5.0)
    assert probe is not None
    breaker.settle(late, Outcome.SUCCESS, 5.0)
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit(5.0) is None


class BreakerMachine(RuleBasedStateMachine):
    """Random attempts, outcomes and pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.changes = _breaker()
        self.now = 0.0
        self.under_way: list[Admission] = []

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def admit(self) -> None:
        before = self.breaker.state
        admission = self.breaker.admit(self.now)
        if admission is not None:
            self.under_way.append(admission)
        if before is State.CLOSED:
            assert admission is not None

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def settle(self, data: st.DataObject, outcome: Outcome) -> None:
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        self.breaker.settle(self.under_way.pop(index), outcome, self.now)

    @invariant()
    def one_probe(self) -> None:
        probes = [one for one in self.under_way if one.state is State.HALF_OPEN and one.era == self.breaker._era]
        assert len(probes) <= 1
        if self.breaker.state is State.OPEN:
            assert probes == []

    @invariant()
    def changes_are_steps(self) -> None:
        allowed = {
            (State.CLOSED, State.OPEN),
            (State.OPEN, State.HALF_OPEN),
            (State.HALF_OPEN, State.OPEN),
            (State.HALF_OPEN, State.CLOSED),
        }
        assert {(before, after) for before, after, _ in self.changes} <= allowed
        assert all(one[1] is other[0] for one, other in zip(self.changes, self.changes[1:], strict=False))

    def teardown(self) -> None:
        """It is never stuck: with nothing under way, an attempt is let through once it is time."""
        for admission in self.under_way:
            self.breaker.settle(admission, Outcome.NEUTRAL, self.now)
        assert self.breaker.admit(self.now + OPTIONS.open_s) is not None


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_window_counts(attempts: list[tuple[float, bool]]) -> None:
    """The window counts whatever happened in nine tenths of its length, and nothing that is older than it is long."""
    window, now, seen = _Window(10.0), 0.0, list[tuple[float, bool]]()
    for pause, failed in attempts:
        now += pause
        seen.append((now, failed))
        counted, failures = window.add(now, failed=failed)
        assert sum(then > now - 9.0 for then, _ in seen) <= counted <= sum(then >= now - 10.0 for then, _ in seen)
        assert failures <= counted


async def _ask(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        request = httpx.Request("GET", "http://inventory/")
        with suppress(httpx.HTTPError, asyncio.CancelledError):
            await breaker.handle_async_request(request)


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (200, False),
        (404, False),
        (429, False),
        (500, True),
        (503, True),
        (httpx.ConnectError("refused"), True),
        (httpx.ReadError("reset"), True),
        (httpx.RemoteProtocolError("no HTTP"), True),
        (AttemptTimedOut("late"), True),
        (httpx.PoolTimeout("busy"), False),
        (BulkheadFull("full"), False),
    ],
)
async def test_what_is_a_failure(answer: Answer, counts: bool, decisions: list[Decision]) -> None:
    """Answers of 5xx and broken connections are failures; 4xx and what never left this process are none."""
    breaker = CircuitBreaker(Dependency(answer), OPTIONS, decisions.append)
    await _ask(breaker, 4)
    assert breaker.breaker.state is (State.OPEN if counts else State.CLOSED)


async def test_cancelled_callers(decisions: list[Decision]) -> None:
    """Callers that give up are no failures, and a cancelled probe gives its place back."""

    async def hang() -> httpx.Response:
        return await asyncio.Event().wait() and httpx.Response(200)

    breaker = CircuitBreaker(Dependency(hang), OPTIONS, decisions.append)
    for _ in range(100):
        task = asyncio.create_task(_ask(breaker))
        await asyncio.sleep(0)
        task.cancel()
        await task
    assert breaker.breaker.state is State.CLOSED


async def test_open_is_told(decisions: list[Decision]) -> None:
    """While it is open nothing is sent, and the error says when it will be asked again."""
    dependency = Dependency(500)
    breaker = CircuitBreaker(dependency, OPTIONS, decisions.append)
    await _ask(breaker, 4)
    await asyncio.sleep(2)
    request = httpx.Request("GET", "http://inventory/")
    with pytest.raises(BreakerOpen) as caught:
        await breaker.handle_async_request(request)
    assert caught.value.retry_after_s == pytest.approx(3.0)
    assert len(dependency.requests) == 4
    assert decisions == [
        BreakerChanged("closed", "open", "4 of 4 attempts failed"),
        Refusing(request, caught.value),
    ]


async def test_recovers(decisions: list[Decision]) -> None:
    """When the dependency is well again the first probe closes it."""
    breaker = CircuitBreaker(Dependency(500, 500, 500, 500, 200), OPTIONS, decisions.append)
    await _ask(breaker, 4)
    await asyncio.sleep(5)
    await _ask(breaker)
    assert breaker.breaker.state is State.CLOSED
