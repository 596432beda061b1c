"""Requests on kept connections; what all transports promise of them is in the transport's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability.resilience.kept_connections import Connector, KeptConnections, encode
from observability.resilience.transport import AiohttpTransport
from tests.observability.resilience.wire import OK, Peer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Either loop: services run on uvloop, tests of them on asyncio's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def _pieces() -> AsyncIterator[bytes]:
    yield b"body"


def _sent_by_session(transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the requests that the session sends from now on."""
    session = transport._session
    assert session is not None
    sent: list[str] = []
    request = session.request

    def noted(method: str, *arguments: Any, **settings: Any) -> Any:
        sent.append(method)
        return request(method, *arguments, **settings)

    monkeypatch.setattr(type(session), "request", lambda _, *arguments, **settings: noted(*arguments, **settings))
    return sent


async def test_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose bytes are at hand asks nothing of the session when a connection is kept."""
    transport = AiohttpTransport()

    async def play(peer: Peer) -> None:
        while request := await peer.receive():
            await peer.send(OK.removesuffix(b"ok") if request.head.startswith(b"HEAD") else OK)

    async with serving(play) as server, httpx.AsyncClient(transport=transport) as client:
        await client.get(server.url)
        sent = _sent_by_session(transport, monkeypatch)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            await client.request(method, server.url, content=b"x" * 100)
        await client.post(server.url, content=_pieces())
    assert sent == ["POST"]  # the one whose body came in pieces
    assert server.connections == 1
    assert server.requests[1].body == b"x" * 100


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("GET", "http://inventory/", content=b"x" * 100_000),
        httpx.Request("POST", "http://inventory/", headers={"transfer-encoding": "chunked"}, content=b"body"),
        httpx.Request("POST", "http://inventory/", headers={"Content-Length": "5"}, content=b"body"),
        httpx.Request("POST", "http://inventory/", headers=[("content-length", "4")] * 2, content=b"body"),
        httpx.Request("POST", "http://inventory/", headers={"content-length": "+4"}, content=b"body"),
        httpx.Request("POST", "http://inventory/", headers=[], stream=httpx.ByteStream(b"body")),
        httpx.Request("GET", "http://inventory/", headers={"content-length": "4"}),
        httpx.Request("GET", "http://inventory/", headers={b"x": b"\xff"}),
        httpx.Request("GET", "http://inventory/", headers={b"x": b"a\r\nb: c"}),
        httpx.Request("GET", "http://inventory/", headers={b"x": b"a\nb"}),
        httpx.Request("GET", "http://inventory/", headers={b"x\n": b"a"}),
        httpx.Request("GET", "http://inventory/", headers={b"x": b"\0"}),
        httpx.Request("GET", "http://inventory/", headers={b"x": b"\x7f"}),
        httpx.Request("CONNECT", "http://inventory/"),
        httpx.Request("GET /a", "http://inventory/"),
    ],
    ids=lambda request: f"{request.method} {dict(request.headers.raw)}"[:50],
)
def test_looked_at(request_: httpx.Request) -> None:
    """What is long, or of another length than it says, or no plain text, is looked at more closely."""
    assert encode(request_) is None


async def test_streamed_request() -> None:
    """A body that comes in pieces is not at hand."""
    assert encode(httpx.Request("POST", "http://inventory/", content=_pieces())) is None


NAMES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=":"), min_size=1)
VALUES = st.text(st.characters(codec="ascii"))


@given(st.lists(st.tuples(NAMES, VALUES)), st.binary(max_size=100))
def test_encode(headers: list[tuple[str, str]], body: bytes) -> None:
    """What is encoded has as many lines as headers, each as it was made, and the body behind them."""
    request = httpx.Request("POST", "http://inventory/a?b=c", headers=headers, content=body)
    if (message := encode(request)) is None:
        return
    head, _, rest = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"POST /a?b=c HTTP/1.1"
    assert [tuple(line.split(b": ", 1)) for line in lines] == request.headers.raw
    assert rest == body
    assert b"\n" not in head.replace(b"\r\n", b"")


@pytest.mark.parametrize("body", [b"x", b"x" * 100_000], ids=["at hand", "long"])
@pytest.mark.parametrize("unasked", [OK.replace(b"ok", b"no"), OK[:-1]], ids=["whole", "half"])
async def test_unasked_answer(unasked: bytes, body: bytes) -> None:
    """A connection on which the server has sent what nobody asked for is not used again, however a request is sent."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(OK)
        if len(peer.server.requests) == 1:
            await peer.send(unasked)
            await peer.gone()

    async with serving(play) as server, httpx.AsyncClient(transport=AiohttpTransport()) as client:
        await client.get(server.url)
        await asyncio.sleep(0.05)
        assert (await client.post(server.url, content=body)).content == b"ok"
        assert server.connections == 2


async def test_silence_after_interim_answer() -> None:
    """A server that is silent after an interim answer is waited for as long as for any other."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(OK)
        await peer.receive()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await peer.gone()

    timeout = httpx.Timeout(5, read=0.05)
    async with serving(play) as server, httpx.AsyncClient(transport=AiohttpTransport(), timeout=timeout) as client:
        await client.get(server.url)
        async with asyncio.timeout(5):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url)


async def test_many_servers() -> None:
    """However many servers are called, few of them are remembered."""
    kept = KeptConnections.of(Connector())
    assert kept is not None
    for number in range(1000):
        kept.learn(httpx.URL(f"http://inventory-{number}/"), Any)  # type: ignore[arg-type]
    assert len(kept._keys) <= 256


async def test_unknown_aiohttp(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of aiohttp sends all by its session, and the log says so."""

    async def get(_connector: aiohttp.TCPConnector, _key: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(aiohttp.TCPConnector, "_get", get)
    assert KeptConnections.of(Connector()) is None
    assert "is not known" in caplog.text
