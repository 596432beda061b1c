"""Asking again, where that is safe, worth the time and within the budget."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.resilience.budget import RetryBudget
from observability.resilience.call import NEVER_SENT, Call, call_of
from observability.resilience.decisions import NotRetrying, Retrying, Tell
from observability.resilience.errors import AnswerTooLarge, Refused

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that do nothing more when they are repeated (RFC 9110, section 9.2.2)."""

STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that may be another one the next time."""


class RetryOptions(BaseModel):
    """When a call is repeated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: int = Field(default=3, ge=1)
    """Attempts of a call, the first one included."""

    base_delay_s: float = Field(default=0.1, gt=0)
    """Bound of the first wait, in seconds; that of each further one is twice the last."""

    max_delay_s: float = Field(default=2.0, gt=0)
    """Bound of any wait, in seconds, unless the dependency asks for a longer one."""

    budget_ratio: float = Field(default=0.2, ge=0, le=1)
    """Retries for each call, over all calls."""

    budget_floor: int = Field(default=3, ge=0)
    """Retries that there are before any call."""


class Retry(httpx.AsyncBaseTransport):
    """Repeats attempts that failed.

    A request is repeated if its method is safe to repeat or it has an `Idempotency-Key`, or if it was never sent; if
    its body can be sent again; while there are attempts, time and budget left. Never after a cancellation, and never
    what the chain itself refused. The wait is random between zero and its bound ("full jitter",
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/); on top of it comes what the
    dependency asks for by `Retry-After`.

    Args:
        inner: Makes one attempt.
        options: When to repeat.
        budget: How often, over all calls to the dependency.
        tell: Told of each decision.
        jitter: A number between 0 and 1.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        options: RetryOptions,
        budget: RetryBudget,
        tell: Tell,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._options = options
        self._tell = tell
        self._jitter = jitter
        self._budget = budget

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make attempts until one succeeds or none is left; the last one's answer or error is the call's."""
        call = call_of(request.extensions)
        self._budget.called()
        while True:
            try:
                response = await self._inner.handle_async_request(request)
            except (Refused, AnswerTooLarge, httpx.PoolTimeout):
                raise
            except httpx.TransportError as error:
                delay_s = self._next(request, call, type(error).__qualname__, never_sent=isinstance(error, NEVER_SENT))
                if delay_s is None:
                    raise
            else:
                if response.status_code not in STATUSES:
                    return response
                asked_s = _retry_after(response.headers.get("retry-after"))
                delay_s = self._next(request, call, str(response.status_code), asked_s=asked_s)
                if delay_s is None:
                    return response
            await asyncio.sleep(delay_s)
            call.attempt += 1

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    def _next(
        self, request: httpx.Request, call: Call, reason: str, *, never_sent: bool = False, asked_s: float = 0.0
    ) -> float | None:
        """Seconds to wait before the next attempt, or None if there is none."""
        bound = min(self._options.max_delay_s, self._options.base_delay_s * 2.0 ** (call.attempt - 1))
        delay_s = asked_s + bound * self._jitter()
        because = self._why_not(request, call, delay_s, never_sent=never_sent)
        if because is not None:
            self._tell(NotRetrying(call.attempt, reason, because))
            return None
        self._tell(Retrying(call.attempt, reason, delay_s))
        return delay_s

    def _why_not(self, request: httpx.Request, call: Call, delay_s: float, *, never_sent: bool) -> str | None:
        if not never_sent and request.method not in SAFE_METHODS and "idempotency-key" not in request.headers:
            return "method"
        if not isinstance(request.stream, httpx.ByteStream):
            return "body"
        if call.attempt >= self._options.max_attempts:
            return "attempts"
        if delay_s >= call.remaining():
            return "deadline"
        return None if self._budget.take() else "budget"


def _retry_after(value: str | None) -> float:
    """Seconds that `Retry-After` asks for (RFC 9110, section 10.2.3); 0 if it is missing, past or no such value."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
