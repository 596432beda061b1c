"""So many calls to one dependency at once and no more, so that a slow one cannot take everything its callers have."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.deadline import current_deadline
from observability.resilience.call import call_of
from observability.resilience.decisions import Refusing, Tell, Waited
from observability.resilience.errors import BulkheadFull


class BulkheadOptions(BaseModel):
    """How many calls at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_calls: int = Field(default=64, ge=1)
    """Calls under way at once."""

    max_waiting: int = Field(default=64, ge=0)
    """Calls that wait for a place; one more is refused at once."""

    max_wait_s: float = Field(default=1.0, gt=0)
    """How long a call waits for a place, in seconds; then it is refused."""


class Bulkhead(httpx.AsyncBaseTransport):
    """Lets a call in when there is a place, and holds the place until the call is over."""

    def __init__(self, inner: httpx.AsyncBaseTransport, options: BulkheadOptions, tell: Tell) -> None:
        self._inner = inner
        self._options = options
        self._tell = tell
        self._places = asyncio.Semaphore(options.max_calls)
        self._under_way = 0
        self._waiting = 0

    @property
    def under_way(self) -> int:
        """Calls that have a place."""
        return self._under_way

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the call on.

        Raises:
            BulkheadFull: There is no place.
        """
        call = call_of(request.extensions)  # the call's time begins here, the wait included
        if self._places.locked():
            await self._wait(request)
            self._tell(Waited(asyncio.get_running_loop().time() - call.started))
        else:
            await self._places.acquire()  # at once
        self._under_way += 1
        try:
            return await self._inner.handle_async_request(request)
        finally:
            self._under_way -= 1
            self._places.release()

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    async def _wait(self, request: httpx.Request) -> None:
        if self._waiting >= self._options.max_waiting:
            raise self._full(request, f"{self._options.max_calls} calls are under way and {self._waiting} wait")
        self._waiting += 1
        try:
            limit = call_of(request.extensions).started + self._options.max_wait_s
            async with asyncio.timeout_at(min(limit, current_deadline())):
                await self._places.acquire()
        except TimeoutError:
            reason = f"{self._options.max_calls} calls are under way, none ended within {self._options.max_wait_s:g} s"
            raise self._full(request, reason) from None
        finally:
            self._waiting -= 1

    def _full(self, request: httpx.Request, reason: str) -> BulkheadFull:
        error = BulkheadFull(reason)
        self._tell(Refusing(request, error))
        return error
