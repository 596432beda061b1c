"""Load that does not wait for answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, repeat

import pytest

from observability.load import load as module
from observability.load.load import Answer, Load, Request


class Edge:
    """A server that keeps what it was sent, and answers with a status, or only when it may."""

    def __init__(self, answer: bytes = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.heard: list[bytes] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.heard.append(head + await reader.readexactly(length))
        await self.may_answer.wait()
        writer.write(self.answer)
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen while the block lasts."""
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield


async def _sent(load: Load, count: int) -> None:
    async with asyncio.timeout(10):
        while load.sent + load.dropped < count:  # noqa: ASYNC110 - it tells of answers only
            await asyncio.sleep(0.001)


@pytest.mark.anyio
async def test_requests() -> None:
    """Requests go out in turn, as a customer sends them: with their JSON, and no trace context."""
    edge, answers = Edge(), list[Answer]()
    async with edge.serving():
        order = Request("POST", f"{edge.url}/orders", b'{"sku":"mug"}', "mug")
        look = Request("GET", f"{edge.url}/orders?limit=2", name="list")
        load = Load(cycle([order, look]), 500, answers.append)
        async with load.running():
            await _sent(load, 4)
    assert load.sent == len(answers) == len(edge.heard)
    assert {(one.request.name, one.status, one.good) for one in answers} == {("mug", 201, True), ("list", 201, True)}
    (told,) = {heard for heard in edge.heard if heard.startswith(b"POST")}
    host = edge.url.removeprefix("http://").encode()
    assert told.startswith(b"POST /orders HTTP/1.1\r\nhost: " + host + b"\r\n")
    assert told.endswith(b'\r\n\r\n{"sku":"mug"}')
    assert any(heard.startswith(b"GET /orders?limit=2 HTTP/1.1\r\n") for heard in edge.heard)
    assert b"traceparent" not in b"".join(edge.heard)


@pytest.mark.anyio
async def test_does_not_wait() -> None:
    """A service that does not answer is sent as many requests as one that does."""
    edge, answers = Edge(), list[Answer]()
    edge.may_answer.clear()
    async with edge.serving():
        load = Load(repeat(Request("GET", f"{edge.url}/")), 500, answers.append)
        async with load.running():
            await _sent(load, 10)
            assert answers == []
            edge.may_answer.set()
        assert load.sent == len(answers)


@pytest.mark.anyio
async def test_too_many_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many wait for an answer, the next ones are not sent but counted, and answers are not waited for long."""
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 3)
    edge, answers = Edge(), list[Answer]()
    edge.may_answer.clear()
    async with edge.serving():
        load = Load(repeat(Request("GET", f"{edge.url}/")), 500, answers.append)
        async with load.running(patience_s=0):
            await _sent(load, 10)
        assert (load.sent, answers) == (3, [])
        assert load.dropped >= 7
        edge.may_answer.set()


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [b"", b"nothing like HTTP\r\n\r\n"])
async def test_no_answer(answer: bytes) -> None:
    """What is no answer of HTTP has no status."""
    edge, answers = Edge(answer), list[Answer]()
    async with edge.serving():
        load = Load(repeat(Request("GET", edge.url)), 500, answers.append)
        async with load.running():
            await _sent(load, 1)
    assert {(one.status, one.good) for one in answers} == {(None, False)}


@pytest.mark.anyio
async def test_nobody_there() -> None:
    """Where nobody listens there is no answer, and the load goes on."""
    edge, answers = Edge(), list[Answer]()
    async with edge.serving():
        pass
    load = Load(repeat(Request("GET", edge.url)), 500, answers.append)
    async with load.running():
        await _sent(load, 3)
    assert {one.status for one in answers} == {None}
    assert len(answers) == load.sent >= 3
