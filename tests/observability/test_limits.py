"""Bounds on bodies and headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from observability.limits import RequestLimits

pytestmark = pytest.mark.anyio


def _client() -> httpx.AsyncClient:
    app = FastAPI()

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/parsed")
    async def parsed(body: list[int]) -> int:
        return len(body)

    limits = RequestLimits(app, max_body_bytes=100, body_timeout_s=0.05, max_headers=10, max_header_bytes=1000)
    return httpx.AsyncClient(transport=httpx.ASGITransport(limits), base_url="http://service")


async def _chunks(count: int, chunk: bytes) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield chunk


async def test_within() -> None:
    """A body of just the size that is allowed is read whole."""
    async with _client() as client:
        assert (await client.post("/length", content=b"x" * 100)).json() == 100


async def test_declared_length() -> None:
    """A body that declares too great a length is refused before it is read."""
    async with _client() as client:
        response = await client.post("/length", content=b"x" * 101)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/length", "/parsed"])
async def test_chunked(path: str) -> None:
    """A chunked body is counted as it arrives, whoever reads it."""
    async with _client() as client:
        response = await client.post(path, content=_chunks(20, b"1,1,1,"), headers={"content-type": "application/json"})
    assert response.status_code == 413


async def test_lying_length() -> None:
    """A declared length that is a lie does not let a greater body in."""
    async with _client() as client:
        response = await client.post("/length", content=_chunks(20, b"123456"), headers={"content-length": "7"})
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/length", "/parsed"])
async def test_slow_body(path: str) -> None:
    """A body that does not arrive in time is refused, whoever reads it."""

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1,"
        await asyncio.Event().wait()

    async with _client() as client:
        response = await client.post(path, content=stuck(), headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["connection"]) == (408, "close")


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

    await RequestLimits(app, body_timeout_s=0.01)({"type": "http", "headers": []}, messages.get, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("headers", [{f"x-{n}": "1" for n in range(20)}, {"x-long": "a" * 1000}], ids=["many", "long"])
async def test_headers(headers: dict[str, str]) -> None:
    """Too many or too long headers are refused."""
    async with _client() as client:
        response = await client.post("/length", headers=headers)
    assert (response.status_code, response.json()["title"]) == (431, "Request Header Fields Too Large")
