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
    """So much is held for other requests that there is no room for this one."""


class Bodies:
    """What is held of all requests at once: at most `MAX_REQUESTS` of them and `MAX_HELD_BYTES`."""

    def __init__(self) -> None:
        # Touched by the event loop only.
        self._requests = 0
        self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """A request's whole body, counted as held until it is left.

        Raises:
            OverloadedError: There is no room.
            TooLargeError: It is too large.
            TimeoutError: It did not arrive within `BODY_TIMEOUT_S`.
            starlette.requests.ClientDisconnect: The sender went away.
        """
        if self._requests >= MAX_REQUESTS:
            raise OverloadedError
        self._requests += 1
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.stream():
                    if size + len(chunk) > MAX_BODY_BYTES:
                        raise TooLargeError
                    if self._bytes + len(chunk) > MAX_HELD_BYTES:
                        raise OverloadedError
                    size += len(chunk)
                    self._bytes += len(chunk)
                    chunks.append(chunk)
            body = b"".join(chunks)
            chunks.clear()
            yield body
        finally:
            self._requests -= 1
            self._bytes -= size


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
