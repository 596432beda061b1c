"""The total time of a call: all its attempts, and every wait before and between them."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.deadline import current_deadline
from observability.resilience.call import call_of
from observability.resilience.decisions import Refusing, Tell
from observability.resilience.errors import DeadlineExceeded, DeadlineSpent


class DeadlineOptions(BaseModel):
    """How long a call may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_s: float = Field(default=6.0, gt=0)
    """Seconds for the whole call; less, if the request that is being served has less time left."""


class Deadline(httpx.AsyncBaseTransport):
    """Ends a call when its time is over, or when nobody waits for its answer any more."""

    def __init__(self, inner: httpx.AsyncBaseTransport, options: DeadlineOptions, tell: Tell) -> None:
        self._inner = inner
        self._options = options
        self._tell = tell

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the call on.

        Raises:
            DeadlineSpent: No time is left to begin.
            DeadlineExceeded: The time is over.
        """
        call = call_of(request.extensions)
        call.deadline = min(call.started + self._options.total_s, current_deadline())
        if call.remaining() <= 0:
            error = DeadlineSpent("the time of the request that is being served is over")
            self._tell(Refusing(request, error))
            raise error
        try:
            async with asyncio.timeout_at(call.deadline) as limit:
                call.limits.append((limit, DeadlineExceeded.__qualname__))
                return await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {call.deadline - call.started:.3g} s") from error

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()
