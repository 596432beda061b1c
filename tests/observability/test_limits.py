"""Bounds on bodies and headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from observability import instrument
from observability.instrument import observe
from observability.limits import MAX_BODY_BYTES, RequestLimits
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio


def _client(recorder: Recorder, **settings: Any) -> httpx.AsyncClient:
    app, router = FastAPI(**settings), APIRouter()

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/parsed")
    async def parsed(body: list[int]) -> int:
        return len(body)

    @router.post("/upload", max_body_size=2 * MAX_BODY_BYTES)
    async def upload(request: Request) -> int:
        return len(await request.body())

    app.include_router(router)
    observe(app, recorder.telemetry("service"))
    return client_for(app)


async def _chunks(count: int, chunk: bytes) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield chunk


def _assert_problem(response: httpx.Response, status: int) -> None:
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["trace_id"]) == 32


async def test_within(recorder: Recorder) -> None:
    """A body of just the size that is allowed is read whole."""
    async with _client(recorder) as client:
        assert (await client.post("/length", content=b"x" * MAX_BODY_BYTES)).json() == MAX_BODY_BYTES


@pytest.mark.parametrize("path", ["/length", "/parsed", "/nowhere"])
async def test_declared_length(recorder: Recorder, path: str) -> None:
    """A body that declares too great a length is refused, even where nobody would read it."""
    async with _client(recorder) as client:
        response = await client.post(path, content=b"x" * (MAX_BODY_BYTES + 1))
    _assert_problem(response, 413)


@pytest.mark.parametrize("path", ["/length", "/parsed"])
async def test_chunked(recorder: Recorder, path: str) -> None:
    """A chunked body is counted as it arrives, whoever reads it."""
    chunk = b"1," * 50_000
    async with _client(recorder) as client:
        response = await client.post(path, content=_chunks(20, chunk), headers={"content-type": "application/json"})
    _assert_problem(response, 413)


async def test_lying_length(recorder: Recorder) -> None:
    """A declared length that is a lie does not let a greater body in."""
    async with _client(recorder) as client:
        chunks = _chunks(20, b"x" * 100_000)
        response = await client.post("/length", content=chunks, headers={"content-length": "7"})
    _assert_problem(response, 413)


async def test_own_bounds(recorder: Recorder) -> None:
    """The application's own bound and a route's stand in the place of the kit's."""
    async with _client(recorder, max_body_size=10) as client:
        assert (await client.post("/length", content=b"x" * 10)).json() == 10
        _assert_problem(await client.post("/length", content=b"x" * 11), 413)
        assert (await client.post("/upload", content=b"x" * 2 * MAX_BODY_BYTES)).json() == 2 * MAX_BODY_BYTES
        _assert_problem(await client.post("/upload", content=b"x" * (2 * MAX_BODY_BYTES + 1)), 413)


@pytest.mark.parametrize("path", ["/length", "/parsed"])
async def test_slow_body(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A body that does not arrive in time is refused, whoever reads it."""
    monkeypatch.setattr(instrument, "RequestLimits", partial(RequestLimits, body_timeout_s=0.05))

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1,"
        await asyncio.Event().wait()

    async with _client(recorder) as client:
        response = await client.post(path, content=stuck(), headers={"content-type": "application/json"})
    _assert_problem(response, 408)
    assert response.headers["connection"] == "close"


async def test_wait_after_body() -> None:
    """Once the body is there its time is over: waiting for the client to hang up takes as long as it takes."""
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"x", "more_body": False})
    received: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        received.append(await receive())
        asyncio.get_running_loop().call_later(0.05, messages.put_nowait, {"type": "http.disconnect"})
        received.append(await receive())

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "headers": [(b"content-length", b"1")]}
    await RequestLimits(app, body_timeout_s=0.01)(scope, messages.get, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    "headers", [{f"x-{n}": "1" for n in range(101)}, {"x-long": "a" * 16_384}], ids=["many", "long"]
)
async def test_headers(recorder: Recorder, headers: dict[str, str]) -> None:
    """Too many or too long headers are refused."""
    async with _client(recorder) as client:
        response = await client.post("/length", headers=headers)
    _assert_problem(response, 431)


@pytest.mark.parametrize("version", ["2", "3"])
async def test_unannounced_body(recorder: Recorder, version: str) -> None:
    """A body that no header announces, as later versions of HTTP allow, is limited all the same."""
    app = FastAPI()

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    observe(app, recorder.telemetry("service"))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * (MAX_BODY_BYTES + 1), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/length", "headers": [], "query_string": b""}
    await app({**scope, "http_version": version}, receive, send)
    assert sent[0]["status"] == 413


async def test_refusal_without_headers() -> None:
    """A status of 413 without headers, which ASGI lets an application leave out, stays as it is."""
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await RequestLimits(app)({"type": "http", "headers": [(b"content-length", b"1")]}, receive, send)
    assert sent == [{"type": "http.response.start", "status": 413}, {"type": "http.response.body"}]


async def test_no_body(recorder: Recorder) -> None:
    """A request without a body goes by what limits bodies, and what a handler answers to it stays as it is."""
    app = FastAPI()

    @app.get("/")
    async def handler(request: Request) -> PlainTextResponse:
        assert "starlette.max_body_size" not in request.scope
        return PlainTextResponse(str(len(await request.body())), status_code=413)

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (413, "0")
