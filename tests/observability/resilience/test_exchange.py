"""One whole exchange."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from opentelemetry.trace import StatusCode

from observability.resilience.errors import AnswerTooLarge
from observability.resilience.exchange import WholeExchange
from observability.testing import Recorder
from tests.observability.resilience.conftest import Dependency

pytestmark = pytest.mark.anyio


class Body(httpx.AsyncByteStream):
    """A body that comes in chunks, or breaks off; it knows whether it was closed."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self._chunks = chunks
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            self.read += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


async def _exchange(body: Body, headers: dict[str, str] | None = None, most: int = 1000) -> httpx.Response:
    step = WholeExchange(Dependency(httpx.Response(200, headers=headers, stream=body)), most)
    return await step.handle_async_request(httpx.Request("GET", "http://inventory/"))


async def test_whole() -> None:
    """The answer is read to its end, and its connection given back."""
    body = Body(b"ab", b"cd")
    response = await _exchange(body, {"x-a": "1", "transfer-encoding": "chunked"})
    assert (response.content, response.headers["x-a"], body.closed) == (b"abcd", "1", True)
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize("settable", [True, False])
@pytest.mark.parametrize(
    ("headers", "length"),
    [({"content-length": "4"}, "4"), ({"content-length": "100"}, "4"), ({"transfer-encoding": "chunked"}, "4")],
    ids=["plain", "other length", "chunked"],
)
async def test_at_hand(headers: dict[str, str], length: str, *, settable: bool) -> None:
    """An answer that has come whole with its head is the same to the caller, whatever httpx's version."""
    made = httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"abcd"))
    exchange = WholeExchange(Dependency(made), 4)
    assert exchange._settable
    exchange._settable = settable
    response = await exchange.handle_async_request(httpx.Request("GET", "http://inventory/"))
    assert (response.content, response.headers["content-length"], response.is_closed) == (b"abcd", length, True)
    assert await response.aread() == b"abcd"
    assert [piece async for piece in response.aiter_bytes()] == [b"abcd"]
    assert "transfer-encoding" not in response.headers
    with pytest.raises(AnswerTooLarge):
        await WholeExchange(Dependency(made), 3).handle_async_request(httpx.Request("GET", "http://inventory/"))


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
async def test_without_a_body(method: str, status: int) -> None:
    """An answer that never has a body tells of the one that there would be."""
    headers = {"content-length": "12345", "content-encoding": "gzip"}
    answer = httpx.Response(status, headers=headers, stream=httpx.ByteStream(b""))
    request = httpx.Request(method, "http://inventory/")
    response = await WholeExchange(Dependency(answer), 4).handle_async_request(request)
    assert (response.status_code, response.content, dict(response.headers)) == (status, b"", headers)
    assert await response.aread() == b""


async def test_inflated() -> None:
    """A compressed answer is inflated, once."""
    response = await _exchange(Body(gzip.compress(b"hello " * 100)), {"content-encoding": "gzip"})
    assert response.content == b"hello " * 100
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}], ids=["plain", "bomb"])
async def test_too_large(headers: dict[str, str]) -> None:
    """An answer that is too long, plain or inflated, is left where it stands, and its connection is closed."""
    chunk = gzip.compress(b"x" * 10_000_000) if headers else b"x" * 600
    body = Body(*[chunk] * 100)
    with pytest.raises(AnswerTooLarge, match="longer than 1000 bytes"):
        await _exchange(body, headers)
    assert body.closed
    assert body.read <= 2


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "br", "zstd", "x" * 1000])
async def test_other_encodings(encoding: str) -> None:
    """An answer that is compressed twice, or as was not asked for, is none, whatever it would become."""
    body = Body(gzip.compress(gzip.compress(b"x" * 10_000_000)))
    with pytest.raises(httpx.RemoteProtocolError, match="was not asked for"):
        await _exchange(body, {"content-encoding": encoding})
    assert body.closed


async def test_breaks_off() -> None:
    """A body that breaks off is an error of the exchange."""
    body = Body(b"ab", httpx.ReadError("reset"))
    with pytest.raises(httpx.ReadError):
        await _exchange(body)
    assert body.closed


async def test_not_what_it_says() -> None:
    """A body that is not compressed as it says is an error of the exchange."""
    with pytest.raises(httpx.DecodingError):
        await _exchange(Body(b"plain"), {"content-encoding": "gzip"})


async def test_cancelled(recorder: Recorder) -> None:
    """The span of an attempt that is cut off says so."""

    async def hang() -> httpx.Response:
        return await asyncio.Event().wait() and httpx.Response(200)

    tracer = recorder.telemetry("orders").tracer_provider.get_tracer("t")

    async def attempt() -> None:
        with tracer.start_as_current_span("GET"):
            await WholeExchange(Dependency(hang), 1000).handle_async_request(httpx.Request("GET", "http://inventory/"))

    task = asyncio.create_task(attempt())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "cancelled"
