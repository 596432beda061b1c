"""The bodies of requests, within bounds of size, time and memory, since a sender may be broken or hostile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from observability.viewer.refusals import OverloadedError, TooLargeError, TooSlowError

MAX_BODY_BYTES = 16 * 1024 * 1024  # as it comes, and inflated
MAX_REQUESTS = 64
MAX_HELD_BYTES = 64 * 1024 * 1024
BODY_TIMEOUT_S = 10.0

_NO_ROOM = "no room for it now"


class Bodies:
    """What is held of all requests at once: at most `MAX_REQUESTS` of them and `MAX_HELD_BYTES`."""

    def __init__(self) -> None:
        # Touched by the event loop only.
        self._requests = 0
        self._bytes = 0
        self._reading: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop(self) -> None:
        """Wait no longer for what has not arrived, since the process is about to end."""
        self._stopping = True
        for limit in self._reading:
            limit.reschedule(0)

    @asynccontextmanager
    async def read(self, arriving: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """A whole body, counted as held until it is left.

        Args:
            arriving: Its parts. What this raises is let through.

        Raises:
            OverloadedError: There is no room, or `stop` was called.
            TooLargeError: It has more than `MAX_BODY_BYTES`.
            TooSlowError: It did not arrive within `BODY_TIMEOUT_S`.
        """
        if self._stopping or self._requests >= MAX_REQUESTS:
            raise OverloadedError(_NO_ROOM)
        self._requests += 1
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S) as limit:
                self._reading.add(limit)
                try:
                    await self._collect(arriving, chunks)
                finally:
                    self._reading.discard(limit)
            chunks[:] = [b"".join(chunks)]  # held once, not twice
            yield chunks[0]
        except TimeoutError:
            if self._stopping:
                raise OverloadedError(_NO_ROOM) from None
            raise TooSlowError(f"it did not arrive within {BODY_TIMEOUT_S:g} s") from None
        finally:
            self._requests -= 1
            self._bytes -= sum(map(len, chunks))

    async def _collect(self, arriving: AsyncIterable[bytes], chunks: list[bytes]) -> None:
        size = 0
        async for chunk in arriving:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise TooLargeError(f"at most {MAX_BODY_BYTES} bytes, also when inflated")
            if self._bytes + len(chunk) > MAX_HELD_BYTES:
                raise OverloadedError(_NO_ROOM)
            self._bytes += len(chunk)
            chunks.append(chunk)
