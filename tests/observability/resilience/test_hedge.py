"""A second attempt beside a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from observability.resilience.budget import RetryBudget
from observability.resilience.call import call_of
from observability.resilience.decisions import Decision, Hedged, Hedging
from observability.resilience.hedge import Hedge, HedgeOptions

pytestmark = pytest.mark.anyio

ON = HedgeOptions(enabled=True)


class Slow(httpx.AsyncBaseTransport):
    """Answers each request after its own time, with its own answer; knows what was cut off."""

    def __init__(self, answer: Callable[[int], tuple[float, int | Exception]]) -> None:
        self._answer = answer
        self.requests: list[httpx.Request] = []
        self.cut_off: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        seconds, outcome = self._answer(len(self.requests))
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cut_off.append(call_of(request.extensions).why_cancelled())
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome, headers={"x-number": str(self.requests.index(request) + 1)})


async def _ask(hedge: Hedge, method: str = "GET", **request: Any) -> httpx.Response:
    return await hedge.handle_async_request(httpx.Request(method, "http://inventory/", **request))


async def _warm(hedge: Hedge) -> None:
    """Let it see twenty reads of a second each."""
    for _ in range(20):
        await _ask(hedge)


async def test_slow_read(decisions: list[Decision]) -> None:
    """A read that is unusually slow is sent again, the second answer is taken, and the first attempt is cut off."""
    slow = Slow(lambda number: (60.0 if number == 21 else 1.0, 200))
    hedge = Hedge(slow, ON, RetryBudget(0.2, 3), decisions.append)
    await _warm(hedge)
    started = asyncio.get_running_loop().time()
    response = await _ask(hedge)
    assert asyncio.get_running_loop().time() - started == pytest.approx(2.0)
    assert response.headers["x-number"] == "22"
    assert decisions == [Hedging(1, 1.0), Hedged(won=True)]
    assert slow.cut_off == ["hedge_lost"]
    assert call_of(slow.requests[-1].extensions).attempt == 2


async def test_first_wins(decisions: list[Decision]) -> None:
    """If the first attempt answers after all, the second one is cut off."""
    slow = Slow(lambda number: ({21: 1.5, 22: 60.0}.get(number, 1.0), 200))
    hedge = Hedge(slow, ON, RetryBudget(0.2, 3), decisions.append)
    await _warm(hedge)
    assert (await _ask(hedge)).headers["x-number"] == "21"
    assert decisions[-1] == Hedged(won=False)
    assert slow.cut_off == ["hedge_lost"]


@pytest.mark.parametrize("failure", [503, httpx.ReadError("reset")])
async def test_failure_does_not_win(decisions: list[Decision], failure: int | Exception) -> None:
    """A second attempt that fails at once is no answer while the first one may still come."""
    slow = Slow(lambda number: {21: (3.0, 200), 22: (0.1, failure)}.get(number, (1.0, 200)))
    hedge = Hedge(slow, ON, RetryBudget(0.2, 3), decisions.append)
    await _warm(hedge)
    assert (await _ask(hedge)).headers["x-number"] == "21"


async def test_both_fail(decisions: list[Decision]) -> None:
    """If both fail, the call has failed."""
    slow = Slow(lambda number: (1.0, 200) if number < 21 else (2.0, httpx.ReadError("reset")))
    hedge = Hedge(slow, ON, RetryBudget(0.2, 3), decisions.append)
    await _warm(hedge)
    with pytest.raises(httpx.ReadError):
        await _ask(hedge)
    assert len(slow.requests) == 22


@pytest.mark.parametrize(
    ("options", "method", "floor"),
    [(HedgeOptions(), "GET", 3), (ON, "PUT", 3), (ON, "POST", 3), (ON, "GET", 0)],
    ids=["off", "no read", "no read either", "no budget"],
)
async def test_not_sent_again(options: HedgeOptions, method: str, floor: int, decisions: list[Decision]) -> None:
    """Where it is off, for what is no read, and without a budget there is one attempt."""
    slow = Slow(lambda number: (60.0 if number == 21 else 1.0, 200))
    hedge = Hedge(slow, options, RetryBudget(0.0, floor), decisions.append)
    await _warm(hedge)
    await _ask(hedge, method)
    assert (len(slow.requests), decisions) == (21, [])


async def test_cancelled(decisions: list[Decision]) -> None:
    """A caller that gives up ends both attempts."""
    slow = Slow(lambda number: (60.0 if number > 20 else 1.0, 200))
    hedge = Hedge(slow, ON, RetryBudget(0.2, 3), decisions.append)
    await _warm(hedge)
    tasks = asyncio.all_tasks()
    task = asyncio.create_task(_ask(hedge))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.cut_off == ["cancelled", "cancelled"]
    assert asyncio.all_tasks() == tasks
