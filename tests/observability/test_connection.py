"""Bounds on a connection before there is a request."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from contextvars import ContextVar
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from observability import connection
from tests.serving import serving
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

REQUEST = b"GET /openapi.json HTTP/1.1\r\nhost: service\r\n"


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    """The status line and the JSON of an answer after which the connection is closed."""
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    return head.partition(b"\r\n")[0].decode(), json.loads(body)


async def test_endless_header() -> None:
    """A header that never ends is refused when it has grown too large, not kept until the memory is full."""
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + b"x-endless: ")
        writer.write(b"a" * (connection.MAX_HEAD_BYTES + 256 * 1024))
        status, members = await _read(reader)
        writer.close()
    assert status == "HTTP/1.1 431 Request Header Fields Too Large"
    assert members["status"] == 431


async def test_endless_url() -> None:
    """A request line that never ends is refused in the same way."""
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /" + b"a" * (connection.MAX_HEAD_BYTES + 256 * 1024))
        status, _ = await _read(reader)
        writer.close()
    assert status == "HTTP/1.1 431 Request Header Fields Too Large"


async def test_late_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not arrive in time ends its connection with 408; one that never began just ends it."""
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        status, _ = await _read(reader)
        writer.close()
        silent, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await silent.read() == b""
        writer.close()
    assert status == "HTTP/1.1 408 Request Timeout"


async def test_slow_handler_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a handler takes is not the head's, though the next request has begun to arrive."""
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.2)
    app = FastAPI()
    timers = asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        await timers.wait()
        return "done"

    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: service\r\n\r\nGET /slow HTTP/1.1\r\n")
        asyncio.get_running_loop().call_later(0.6, timers.set)  # three times the head's time
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'"done"'))
        writer.write(b"host: service\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            rest = await reader.read()
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest.startswith(b"HTTP/1.1 200 ")


async def test_large_head_in_pieces() -> None:
    """A head within the bounds is read whole, however it is cut up, and so is the request after it."""
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for end in (b"\r\n", b"connection: close\r\n\r\n"):
            writer.write(REQUEST)
            await writer.drain()
            writer.write(b"x-long: " + b"a" * 1000 + b"\r\n" + end)
        async with asyncio.timeout(10):
            answers = await reader.read()
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 2


async def _chunked(app: ASGIApp, rest: bytes) -> str:
    """The status line for a chunked body that is followed by `rest`."""
    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /body HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")
        await writer.drain()
        writer.write(rest)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    return answer.partition(b"\r\n")[0].decode()


async def test_endless_trailer() -> None:
    """A trailer after the body that never ends ends the connection, and the handler that waits for it."""
    app, ended = FastAPI(), asyncio.Event()

    @app.post("/body")
    async def body(request: Request) -> None:
        try:
            await request.body()
        finally:
            ended.set()

    endless = b"0\r\nx-endless: " + b"a" * (connection.MAX_HEAD_BYTES + 256 * 1024)
    assert await _chunked(app, endless) == ""
    await asyncio.wait_for(ended.wait(), 10)


async def test_body_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a body that nobody reads holds its connection no longer than a head would."""
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nowhere HTTP/1.1\r\nhost: service\r\ncontent-length: 1000\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"x")
            await reader.read()
        writer.close()
    assert head.startswith(b"HTTP/1.1 404 ")


async def test_garbage_behind_a_request() -> None:
    """What is no HTTP behind a request does not break the answer to it, which is the last on its connection."""
    app, leave = FastAPI(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        await leave.wait()
        return "done"

    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: service\r\n\r\n\x00garbage\r\n\r\n")
        await writer.drain()
        asyncio.get_running_loop().call_later(0.02, leave.set)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'"done"')


async def test_no_http() -> None:
    """What is no HTTP is answered with a problem."""
    async with serving(FastAPI()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 this is TLS\r\n\r\n")
        status, members = await _read(reader)
        writer.close()
    assert (status, members["title"]) == ("HTTP/1.1 400 Bad Request", "Bad Request")


class _Transport(asyncio.Transport):
    """A connection without a network, which only knows when it was closed."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 40000)})
        self.closed_at: float | None = None

    def write(self, _data: object) -> None:
        """Send nothing."""

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = asyncio.get_running_loop().time()

    def pause_reading(self) -> None:
        """Read nothing anyway."""

    def resume_reading(self) -> None:
        """Read nothing anyway."""


def _idle(seconds: float, *requests_at: float, empty_lines_at: tuple[float, ...] = ()) -> float:
    """When a connection was closed on which requests come at these times and take so long, in seconds."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def run() -> float:
        loop, transport = asyncio.get_running_loop(), _Transport()
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=5)
        config.load()
        bounded = connection.BoundedConnection(config, ServerState(), {}, loop)
        bounded.connection_made(transport)
        began = loop.time()
        for at in requests_at:
            loop.call_at(began + at, bounded.data_received, b"GET / HTTP/1.1\r\nhost: service\r\n\r\n")
        for at in empty_lines_at:
            loop.call_at(began + at, bounded.data_received, b"\r\n")
        await asyncio.sleep(60)
        assert transport.closed_at is not None
        assert bounded.server_state.total_requests == len(requests_at)
        bounded.connection_lost(None)
        return transport.closed_at - began

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


@pytest.mark.parametrize(
    ("seconds", "requests_at", "closed_at"),
    [
        (0, [0.0], 5.0),
        (0, [0.0, 3.0, 6.0], 11.0),
        (0, [0.0, 4.99, 9.98], 14.98),
        (12, [0.0], 17.0),  # busy longer than a connection may be idle
        (12, [0.0, 14.0], 31.0),
        (2, [0.0, 0.5, 1.0], 11.0),  # pipelined: answered at 2, 4 and 6
    ],
)
def test_idle_connection(seconds: float, requests_at: list[float], closed_at: float) -> None:
    """A connection is closed when nothing has come for so long since its last answer, and never while it is busy."""
    assert _idle(seconds, *requests_at) == pytest.approx(closed_at)


def test_empty_lines() -> None:
    """Empty lines, which the parser skips between requests, do not keep a connection that is idle."""
    assert _idle(0, 0.0, empty_lines_at=(2.0, 4.0)) == pytest.approx(5.0)


@pytest.mark.parametrize("between", [b"", b"x" * 1_000_000], ids=["pipelined", "after a body that has to wait"])
async def test_own_context(between: bytes) -> None:
    """Each request on a connection begins in the server's context, and finds nothing of the one before it there."""
    set_by: ContextVar[str] = ContextVar("set_by")
    found = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(set_by.get())
        set_by.set(scope["path"])
        if scope["method"] == "POST":
            await asyncio.sleep(0.05)  # reading is paused meanwhile
            while (await receive())["more_body"]:
                pass
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    set_by.set("the server")
    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if between:
            writer.write(
                b"POST /first HTTP/1.1\r\nhost: service\r\ncontent-length: %d\r\n\r\n" % len(between) + between
            )
            await reader.readuntil(b"\r\n\r\n")
            writer.write(REQUEST + b"\r\n")
        else:
            writer.write((REQUEST + b"\r\n") * 2)
            await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert found == ["the server"] * 2


async def test_hang_up_behind_pipelined_requests() -> None:
    """The request that is being served is told that its client hung up, also where others were to come after it."""
    told: asyncio.Queue[object] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        if scope["path"] == "/first":
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        told.put_nowait((scope["path"], connection.client_has_gone(scope)))

    async with serving(app) as (port, _):
        for paths, served in (("ab", "/a"), (("first", "b", "c"), "/b")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.writelines(b"GET /%s HTTP/1.1\r\nhost: service\r\n\r\n" % path.encode() for path in paths)
            await reader.readuntil(b"begun")
            writer.close()
            async with asyncio.timeout(10):
                assert await told.get() == (served, True)


def test_lost_connection_is_let_go() -> None:
    """No timer keeps a connection that was lost while it was idle."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def run() -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        bounded = connection.BoundedConnection(config, ServerState(), {}, asyncio.get_running_loop())
        bounded.connection_made(_Transport())
        bounded.data_received(b"GET / HTTP/1.1\r\nhost: service\r\n\r\n")
        await asyncio.sleep(1)
        lost = weakref.ref(bounded)
        bounded.connection_lost(None)
        del bounded
        gc.collect()
        assert lost() is None

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def test_no_garbage() -> None:
    """A request that has ended leaves no cycle of objects for the garbage collector."""
    cycles: list[weakref.ref[object]] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        assert connection.client_has_gone(scope) is False
        assert connection.cut_of(scope) is not None
        cycles.append(scope["extensions"]["clearspan.connection"]["cycle"])
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    gc.collect()
    gc.disable()
    try:
        async with serving(app) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(REQUEST + b"\r\n")
                await reader.readuntil(b"\r\n\r\n")
            assert cycles[0]() is None  # the second request has taken its place in the connection
            writer.close()
    finally:
        gc.enable()


def test_other_servers() -> None:
    """A server that is not the kit's does not tell."""
    assert connection.client_has_gone({"type": "http"}) is None
    assert connection.cut_of({"type": "http", "extensions": {}}) is None
