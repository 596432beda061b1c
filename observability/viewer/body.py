"""The bodies of requests, within bounds of size, time and memory, since a sender may be broken or hostile."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

MAX_BODY_BYTES = 16 * 1024 * 1024  # as it comes, and inflated
MAX_REQUESTS = 64
MAX_HELD_BYTES = 64 * 1024 * 1024
BODY_TIMEOUT_S = 10.0


class TooLargeError(Exception):
    """The body has more than `MAX_BODY_BYTES`, or would when inflated."""


class OverloadedError(Exception):
    """There is no room for this request, or no time any more: its sender may come again."""


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
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """A request's whole body, counted as held until it is left.

        Raises:
            OverloadedError: There is no room, or `stop` was called.
            TooLargeError: It is too large.
            TimeoutError: It did not arrive within `BODY_TIMEOUT_S`.
            starlette.requests.ClientDisconnect: The sender went away.
        """
        if self._stopping or self._requests >= MAX_REQUESTS:
            raise OverloadedError
        self._requests += 1
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S) as limit:
                self._reading.add(limit)
                try:
                    await self._collect(request, chunks)
                finally:
                    self._reading.discard(limit)
            chunks[:] = [b"".join(chunks)]  # held once, not twice
            yield chunks[0]
        except TimeoutError:
            raise OverloadedError if self._stopping else TimeoutError from None
        finally:
            self._requests -= 1
            self._bytes -= sum(map(len, chunks))

    async def _collect(self, request: Request, chunks: list[bytes]) -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise TooLargeError
            if self._bytes + len(chunk) > MAX_HELD_BYTES:
                raise OverloadedError
            self._bytes += len(chunk)
            chunks.append(chunk)


def inflate(body: bytes) -> bytes:
    """Inflate gzip, of one member as every exporter sends it, without ever holding more than the bound.

    Raises:
        TooLargeError: It would have more than `MAX_BODY_BYTES`.
        zlib.error: It is no gzip, is cut off, or something follows it.
    """
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    inflated = member.decompress(body, MAX_BODY_BYTES + 1)
    if len(inflated) > MAX_BODY_BYTES:
        raise TooLargeError
    if not member.eof or member.unused_data:
        raise zlib.error("cut off, or more than one member")
    return inflated
