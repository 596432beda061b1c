"""Load at a rate that does not wait for answers, as customers do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_IN_FLIGHT = 1000
"""Requests that wait for an answer at once; while there are as many, none is sent."""

ANSWER_TIMEOUT_S = 40.0
"""Longer than any service may take."""

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What a customer asks for: its method, its URL, its JSON if any; and what it is called where it is counted."""

    method: str
    url: str
    body: bytes = b""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: when it was sent, in the loop's time, how long it took, and its status.

    The status is None if there was no answer.
    """

    request: Request
    sent: float
    seconds: float
    status: int | None

    @property
    def good(self) -> bool:
        """Whether the customer got what was asked for."""
        return self.status in range(200, 300)


@dataclass
class Load:
    """Requests, so many a second; `rate` may be changed while it runs.

    It is not traced, and sends no trace context: it is the stranger at the edge.

    Args:
        requests: What to send, in this order.
        rate: Requests a second.
        told: Is told of each answer.
    """

    requests: Iterator[Request]
    rate: float
    told: Callable[[Answer], object]
    sent: int = 0
    dropped: int = 0
    """Requests that were due while too many waited for an answer, and were not sent."""
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self, patience_s: float | None = None) -> AsyncIterator[None]:
        """Send requests for as long as the block lasts, and wait for their answers at its end.

        Args:
            patience_s: How long to wait for them; by default for as long as each may take.
        """
        sender = asyncio.create_task(self._send_all())
        try:
            yield
        finally:
            sender.cancel()
            await asyncio.wait({sender, *self._under_way}, timeout=patience_s)
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(sender, *self._under_way, return_exceptions=True)

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for request in self.requests:
            due = max(due + 1 / self.rate, loop.time() - 1.0)  # of what was missed, a second is made up for
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(self._under_way) >= MAX_IN_FLIGHT:
                self.dropped += 1
                continue
            self.sent += 1
            task = asyncio.create_task(self._send(request))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _send(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                status = await _status(request)
        except (OSError, ValueError, TimeoutError):
            status = None
        self.told(Answer(request, sent, loop.time() - sent, status))


async def _status(request: Request) -> int:
    """The status of the answer. By hand: an HTTP client would take more of the machine than what is looked at."""
    parts = urlsplit(request.url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None
    )
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        writer.write(
            f"{request.method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\nuser-agent: clearspan-load\r\n"
            "content-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(request.body)}\r\n\r\n".encode()
            + request.body
        )
        first = await reader.readline()  # HTTP/1.1 201 Created
        while await reader.read(_PIECE_BYTES):
            pass
        return int(first[9:12])
    finally:
        writer.close()
