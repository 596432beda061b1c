"""Load at a rate that does not wait for answers, as customers do not wait for each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlsplit

MAX_IN_FLIGHT = 1000
"""Requests that wait for an answer at once; while there are as many, none is sent."""

ANSWER_TIMEOUT_S = 40.0
"""Longer than any service may take."""

_BODY = json.dumps({"sku": "mug", "quantity": 1}).encode()


@dataclass(frozen=True, slots=True)
class Request:
    """What a customer asks for: its method, its URL, its body if any."""

    method: str
    url: str
    body: bytes = b""

    @classmethod
    def order(cls, orders_url: str) -> Request:
        """Buy a mug."""
        return cls("POST", f"{orders_url}/orders", _BODY)

    @classmethod
    def stock(cls, inventory_url: str, sku: str) -> Request:
        """Ask how many of one kind are left."""
        return cls("GET", f"{inventory_url}/stock/{sku}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: when it was sent, in the loop's time, how long it took, and its status.

    The status is None if there was no answer.
    """

    sent: float
    seconds: float
    status: int | None

    @property
    def good(self) -> bool:
        """Whether the order was placed, or the stock told."""
        return self.status in (200, 201)


@dataclass
class Load:
    """Requests in turn, so many a second in all; `rate` may be changed while it runs."""

    requests: Sequence[Request]
    rate: float
    answers: list[Answer] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send requests for as long as the block lasts, and wait for their answers at its end."""
        sender = asyncio.create_task(self._send_all())
        try:
            yield
        finally:
            sender.cancel()
            await asyncio.gather(sender, *self._under_way, return_exceptions=True)

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for request in cycle(self.requests):
            due = max(due + 1 / self.rate, loop.time() - 1.0)  # of what was missed, a second is made up for
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(self._under_way) < MAX_IN_FLIGHT:
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
        self.answers.append(Answer(sent, loop.time() - sent, status))


async def _status(request: Request) -> int:
    """The status of the answer. By hand: an HTTP client would take more of the machine than what is looked at."""
    parts = urlsplit(request.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(
            f"{request.method} {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(request.body)}\r\nconnection: close\r\n\r\n".encode()
            + request.body
        )
        answer = await reader.read()
        return int(answer[9:12])  # HTTP/1.1 201
    finally:
        writer.close()
