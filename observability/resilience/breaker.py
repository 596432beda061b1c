"""Leaving a dependency alone that fails too often, and trying it again one call at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.resilience.call import call_of
from observability.resilience.decisions import BreakerChanged, Refusing, Tell
from observability.resilience.errors import BreakerOpen, Refused

ELSEWHERE = "it opened on another replica"
"""The reason of a change that was not learned here; see `observability.resilience.shared`."""

_SLICES = 10


class BreakerOptions(BaseModel):
    """When a dependency is left alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    """Share of the attempts within the window that failed, at which the breaker opens."""

    window_s: float = Field(default=10.0, gt=0)
    """Length of the sliding window, in seconds."""

    min_attempts: int = Field(default=20, ge=1)
    """Attempts within the window below which it does not open, however many failed."""

    open_s: float = Field(default=5.0, gt=0)
    """How long the dependency is left alone before a probe, in seconds."""


class State(Enum):
    """What a breaker does with attempts: lets all through, none, or one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(Enum):
    """What an attempt tells of the dependency; NEUTRAL is nothing, as when the caller gave up."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class Admission:
    """Leave to make one attempt; `Breaker.settle` takes it back with the outcome."""

    __slots__ = ("era", "state")

    def __init__(self, state: State, era: int) -> None:
        self.state = state
        self.era = era


class Breaker:
    """The state of one dependency.

    It knows no clock and waits for nothing: each call brings the time along, in seconds.

    A state lasts for an era. What an attempt of an earlier era brings home is not counted, so that a late answer cannot
    decide on a state that did not let it through. `admit` and the change to half-open are one step, so that of however
    many calls exactly one becomes the probe.

    Args:
        options: When to open and for how long.
        changed: Told of each change of state, with the reason.
    """

    def __init__(self, options: BreakerOptions, changed: Callable[[State, State, str], None]) -> None:
        self._options = options
        self._changed = changed
        self._state = State.CLOSED
        self._era = 0
        self._window = _Window(options.window_s)
        self._opened_at = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """What it does with attempts now."""
        return self._state

    def admit(self, now: float) -> Admission | None:
        """Leave for an attempt, or None if the dependency is left alone; who gets it has to settle it."""
        if self._state is State.OPEN and now >= self._opened_at + self._options.open_s:
            self._enter(State.HALF_OPEN, f"{self._options.open_s:g} s have passed")
        if self._state is State.OPEN or (self._state is State.HALF_OPEN and self._probing):
            return None
        self._probing = self._state is State.HALF_OPEN
        return Admission(self._state, self._era)

    def settle(self, admission: Admission, outcome: Outcome, now: float) -> None:
        """Count an attempt's outcome."""
        if admission.era != self._era:
            return
        if self._state is State.HALF_OPEN:
            self._probing = False
            if outcome is Outcome.SUCCESS:
                self._window.clear()
                self._enter(State.CLOSED, "the probe succeeded")
            elif outcome is Outcome.FAILURE:
                self._open(now, "the probe failed")
            return
        if outcome is Outcome.NEUTRAL:
            return
        failed = outcome is Outcome.FAILURE
        attempts, failures = self._window.add(now, failed=failed)
        often = attempts >= self._options.min_attempts and failures >= attempts * self._options.failure_ratio
        if failed and often:
            self._open(now, f"{failures} of {attempts} attempts failed")

    def open_for(self, seconds: float, now: float, reason: str) -> None:
        """Open for so long, if it is closed, for what was learned elsewhere."""
        if self._state is State.CLOSED:
            self._open(now - self._options.open_s + seconds, reason)

    def retry_after(self, now: float) -> float:
        """Seconds until the next probe may be made."""
        return max(0.0, self._opened_at + self._options.open_s - now)

    def _open(self, now: float, reason: str) -> None:
        self._opened_at = now
        self._enter(State.OPEN, reason)

    def _enter(self, state: State, reason: str) -> None:
        before, self._state = self._state, state
        self._era += 1
        self._probing = False
        self._changed(before, state, reason)


class _Window:
    """Attempts and failures of the last seconds, in slices that leave one by one."""

    def __init__(self, seconds: float) -> None:
        self._slice_s = seconds / _SLICES
        self._slices: deque[list[int]] = deque()  # number, attempts and failures of each slice that has any
        self._attempts = 0
        self._failures = 0

    def add(self, now: float, *, failed: bool) -> tuple[int, int]:
        """Count an attempt; the attempts and failures within the window."""
        number = int(now / self._slice_s)
        while self._slices and self._slices[0][0] <= number - _SLICES:
            _, attempts, failures = self._slices.popleft()
            self._attempts -= attempts
            self._failures -= failures
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self._attempts += 1
        self._failures += failed
        return self._attempts, self._failures

    def clear(self) -> None:
        """Forget everything."""
        self._slices.clear()
        self._attempts = self._failures = 0


class CircuitBreaker(httpx.AsyncBaseTransport):
    """Lets attempts through as the breaker has it, and tells the breaker how they ended.

    Failures are answers of 5xx and whatever is no answer: errors of the connection and the end of the attempt's or the
    call's time. Answers of 4xx are the caller's; a caller that gave up and a pool without a free connection say nothing
    of the dependency.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, options: BreakerOptions, tell: Tell) -> None:
        self._inner = inner
        self._tell = tell
        self.breaker = Breaker(
            options, lambda before, after, reason: tell(BreakerChanged(before.value, after.value, reason))
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the attempt on.

        Raises:
            BreakerOpen: The dependency is left alone.
        """
        loop = asyncio.get_running_loop()
        admission = self.breaker.admit(loop.time())
        if admission is None:
            error = BreakerOpen(
                "it has failed too often of late and is left alone", retry_after_s=self.breaker.retry_after(loop.time())
            )
            self._tell(Refusing(request, error))
            raise error
        call = call_of(request.extensions)
        call.breaker = admission.state.value
        outcome = Outcome.NEUTRAL
        try:
            response = await self._inner.handle_async_request(request)
        except (Refused, httpx.PoolTimeout):
            raise
        except httpx.TransportError:
            outcome = Outcome.FAILURE
            raise
        except asyncio.CancelledError:
            if call.why_cancelled() != "cancelled":
                outcome = Outcome.FAILURE
            raise
        else:
            outcome = Outcome.FAILURE if response.is_server_error else Outcome.SUCCESS
            return response
        finally:
            self.breaker.settle(admission, outcome, loop.time())

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()
