"""The time of one attempt, of which the dependency is told."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import BaseModel, ConfigDict, Field

from observability.deadline import TIMEOUT_HEADER
from observability.resilience.call import NEVER_SENT, call_of
from observability.resilience.decisions import Attempted, Refusing, Tell
from observability.resilience.errors import AttemptTimedOut, DeadlineSpent


class AttemptOptions(BaseModel):
    """How long an attempt may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(default=2.0, gt=0)
    """Seconds from the first byte sent to the last byte received; less, if the call has less time left."""

    tell_dependency: bool = True
    """Whether the time travels in `x-envoy-expected-rq-timeout-ms`; false for services that are not our own."""


class AttemptTimeout(httpx.AsyncBaseTransport):
    """Ends an attempt when its time is over."""

    def __init__(self, inner: httpx.AsyncBaseTransport, options: AttemptOptions, tell: Tell) -> None:
        self._inner = inner
        self._options = options
        self._tell = tell

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the attempt.

        Raises:
            AttemptTimedOut: Its time is over.
            DeadlineSpent: No time is left to send it.
        """
        call = call_of(request.extensions)
        seconds = min(self._options.timeout_s, call.remaining())
        milliseconds = int(seconds * 1000)
        if milliseconds <= 0:
            spent = DeadlineSpent("no time is left for another attempt")
            self._tell(Refusing(request, spent))
            raise spent
        if self._options.tell_dependency:
            request.headers[TIMEOUT_HEADER] = str(milliseconds)
        if seconds < self._options.timeout_s:
            return await self._send(request)  # the call's own limit comes first
        try:
            async with asyncio.timeout(seconds) as limit:
                call.limits.append((limit, AttemptTimedOut.__qualname__))
                try:
                    return await self._send(request)
                finally:
                    call.limits.pop()
        except TimeoutError as error:
            raise AttemptTimedOut(f"no answer within {seconds:.3g} s") from error

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        call = call_of(request.extensions)
        sent_before, call.sent = call.sent, True  # whatever happens now; a cancellation too
        error_type: str | None = None
        try:
            response = await self._inner.handle_async_request(request)
        except asyncio.CancelledError:
            error_type = call.why_cancelled()
            raise
        except Exception as error:
            error_type = type(error).__qualname__
            if isinstance(error, NEVER_SENT):
                call.sent = sent_before
            raise
        else:
            error_type = str(response.status_code) if response.is_error else None
            return response
        finally:
            self._tell(Attempted(error_type))
