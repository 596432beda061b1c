"""A second attempt beside one that takes unusually long: whichever answers first is taken, the other one is cancelled.

Dean and Barroso, "The Tail at Scale", Communications of the ACM 56 (2013), section "Hedged requests".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.resilience.budget import RetryBudget
from observability.resilience.call import CALL, Call, call_of
from observability.resilience.decisions import Hedged, Hedging, Tell

READ_METHODS = frozenset({"GET", "HEAD"})

_REMEMBERED = 200
_NEEDED = 20
_QUANTILE = 0.95


class HedgeOptions(BaseModel):
    """Whether reads get a second attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    """It costs the dependency up to a twentieth more reads, so it is for tails that hurt."""

    min_delay_s: float = Field(default=0.01, gt=0)
    """How long the first attempt gets at least before there is a second one, in seconds."""


class Hedge(httpx.AsyncBaseTransport):
    """Sends a read a second time when it takes longer than 95 % of the last ones, if the retries' budget has one left.

    Both attempts pass the breaker and have their own time. An answer of 5xx or an error is taken only if the other
    attempt ends so too.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, options: HedgeOptions, budget: RetryBudget, tell: Tell) -> None:
        self._inner = inner
        self._options = options
        self._budget = budget
        self._tell = tell
        self._durations: deque[float] = deque(maxlen=_REMEMBERED)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one attempt, or two."""
        if not self._options.enabled or request.method not in READ_METHODS:
            return await self._inner.handle_async_request(request)
        delay_s = self._unusual()
        if delay_s is None:
            return await self._attempt(request)
        call = call_of(request.extensions)
        first = asyncio.create_task(self._attempt(request))
        calls = {first: call}
        try:
            await asyncio.wait(calls, timeout=delay_s)
            if not first.done() and self._budget.take():
                self._tell(Hedging(call.attempt, delay_s))
                other = replace(call, attempt=call.attempt + 1, limits=[*call.limits])
                calls[asyncio.create_task(self._attempt(_copy(request, other)))] = other
            winner = await _first_good(calls)
            if len(calls) > 1:
                self._tell(Hedged(won=winner is not first))
            for loser in calls.keys() - {winner}:
                calls[loser].lost = True
            return winner.result()
        finally:
            for attempt in calls:
                attempt.cancel()
            await asyncio.wait(calls)
            for attempt in calls:
                _ = attempt.cancelled() or attempt.exception()  # seen, so that asyncio does not report it

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        loop = asyncio.get_running_loop()
        started = loop.time()
        response = await self._inner.handle_async_request(request)
        self._durations.append(loop.time() - started)
        return response

    def _unusual(self) -> float | None:
        """Seconds that 95 % of the last reads took less than; None if too few are known."""
        if len(self._durations) < _NEEDED:
            return None
        ordered = sorted(self._durations)
        return max(self._options.min_delay_s, ordered[int(len(ordered) * _QUANTILE)])


async def _first_good(attempts: Iterable[asyncio.Task[httpx.Response]]) -> asyncio.Task[httpx.Response]:
    """The first attempt that succeeds; if none does, one that failed."""
    pending = set(attempts)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        good = [one for one in done if one.exception() is None and not one.result().is_server_error]
        if good or not pending:
            return (good or list(done))[0]


def _copy(request: httpx.Request, call: Call) -> httpx.Request:
    """The request with a state and headers of its own, since each attempt writes into both."""
    extensions = {**request.extensions, CALL: call}
    return httpx.Request(
        request.method, request.url, headers=request.headers, stream=request.stream, extensions=extensions
    )
