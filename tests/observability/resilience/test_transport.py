"""What our transport promises beyond the contract of each: nothing is leaked, whoever gives up, and whenever."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, cast

import httpx
import pytest
from aiohttp.http import StreamWriter

from observability.resilience.transport import AiohttpTransport, _Body
from tests.observability.resilience.wire import OK, Peer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Either loop: services run on uvloop, tests of them on asyncio's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def _client(transport: httpx.AsyncBaseTransport, **settings: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, trust_env=False, **settings)


async def _stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _held(transport: AiohttpTransport) -> int:
    """How many connections the connector believes to be in use."""
    assert transport._session is not None
    return len(cast("Any", transport._session.connector)._acquired)


def _idle(transport: AiohttpTransport) -> int:
    assert transport._session is not None
    return sum(len(connections) for connections in cast("Any", transport._session.connector)._conns.values())


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])  # the faster one
async def test_soak() -> None:
    """After 10,000 calls, cancelled at random moments in a pool of 10, ten calls at once succeed."""
    chance = random.Random(1)  # noqa: S311 # the same moments in each run
    together = asyncio.Barrier(10)

    async def play(peer: Peer) -> None:
        while True:
            request = await peer.receive()
            if request.target == b"/together":
                await together.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhalf")
            await asyncio.sleep(0)
            await peer.send(b"ed")

    transport = AiohttpTransport(max_connections=10)
    async with serving(play) as server, _client(transport) as client:

        async def call() -> None:
            match chance.randrange(3):
                case 0:
                    await client.get(server.url)
                case 1:
                    await client.post(server.url, content=_stream(b"one", b"two"))
                case _:
                    async with client.stream("PUT", server.url, content=b"body") as response:
                        await anext(response.aiter_raw())

        async def give_up() -> int:
            task = asyncio.create_task(call())
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            return cancelled

        async def giving_up() -> int:
            return sum([await give_up() for _ in range(400)])

        cancelled = sum(await asyncio.gather(*(giving_up() for _ in range(25))))
        assert 0 < cancelled < 10_000  # how many ended first is the machine's speed; both kinds were met
        assert _held(transport) == 0
        assert _idle(transport) <= 10
        answers = await asyncio.gather(*(client.get(f"{server.url}together") for _ in range(10)))
        assert [answer.text for answer in answers] == ["halfed"] * 10


@types.coroutine
def _stepping(coroutine: Coroutine[Any, Any, None], moment: int, *, with_result: bool) -> Generator[Any, Any, None]:
    """Run something, and cancel this task when it waits for the n-th time, or just as that wait ends."""
    task = asyncio.current_task()
    assert task is not None
    failure: BaseException | None = None
    for step in itertools.count():
        try:
            future = coroutine.send(None) if failure is None else coroutine.throw(failure)
        except StopIteration:
            return
        failure = None
        if step == moment:
            if with_result and future is not None:
                future.add_done_callback(lambda _: task.cancel())
            else:
                task.get_loop().call_soon(task.cancel)
        try:
            yield future
        except BaseException as error:  # noqa: BLE001 # it is thrown into what runs
            failure = error


async def _cancelled_at(coroutine: Coroutine[Any, Any, None], moment: int, *, with_result: bool) -> None:
    await _stepping(coroutine, moment, with_result=with_result)


async def _get(client: httpx.AsyncClient, url: str) -> None:
    await client.get(url)


async def _post(client: httpx.AsyncClient, url: str) -> None:
    await client.post(url, content=_stream(b"some", b"body"))


async def _read_half(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as response:
        await anext(response.aiter_raw())


@pytest.mark.parametrize("with_result", [False, True])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("call", [_get, _post, _read_half])
async def test_cancelled_at_each_await(
    call: Callable[[httpx.AsyncClient, str], Coroutine[Any, Any, None]], *, fresh: bool, with_result: bool
) -> None:
    """Wherever a call waits, cancelling it there gives its place and its connection back."""
    transport = AiohttpTransport(max_connections=1)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"

    async def play(peer: Peer) -> None:
        while True:
            await peer.receive()
            await peer.send(answer)
            await peer.send(b"halfed")

    async with serving(play) as server, _client(transport, timeout=5) as client:
        url = server.url.replace("127.0.0.1", "localhost")  # which has to be looked up
        for moment in itertools.count():
            if fresh and transport._session is not None:
                await transport.aclose()
                transport._session = None
            task = asyncio.create_task(_cancelled_at(call(client, url), moment, with_result=with_result))
            await asyncio.wait([task])
            assert transport._session is not None
            assert (transport._free._value, _held(transport)) == (1, 0)
            assert (await client.get(url)).text == "halfed"
            if not task.cancelled():
                task.result()
                break
        assert moment > (3 if fresh else 0)  # it did wait, and was cancelled there


@pytest.mark.parametrize("with_result", [False, True])
async def test_cancelled_in_the_queue(*, with_result: bool) -> None:
    """A call that is cancelled while it waits for a place, or just as it gets one, leaves the place to the next."""
    transport = AiohttpTransport(max_connections=1)
    async with serving(OK) as server, _client(transport, timeout=5) as client:
        async with client.stream("GET", server.url):
            first = asyncio.create_task(_cancelled_at(_get(client, server.url), 0, with_result=with_result))
            await asyncio.sleep(0)
            second = asyncio.create_task(_get(client, server.url))
            await asyncio.sleep(0)
        await asyncio.wait([first])
        assert first.cancelled()
        await second


@pytest.mark.parametrize("end", ["closed", "forgotten", "left in the middle"])
async def test_unread_answer(end: str) -> None:
    """An answer that is not read to its end gives its place back and drops its connection."""
    dropped = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")
        await peer.gone()
        dropped.set()

    transport = AiohttpTransport(max_connections=1)
    async with serving(play) as server, _client(transport, timeout=5) as client:
        for _ in range(2):
            response = await client.send(client.build_request("GET", server.url), stream=True)
            if end == "left in the middle":
                async for _piece in response.aiter_raw():
                    break
            if end == "forgotten":
                del response
                gc.collect()
            else:
                await response.aclose()
            await dropped.wait()
            dropped.clear()
        assert (transport._free._value, _held(transport)) == (1, 0)


async def test_closed() -> None:
    """Closing closes idle connections and those in use, and a request afterwards fails."""
    transport = AiohttpTransport()

    async def play(peer: Peer) -> None:
        while (await peer.receive()).target != b"/hang":
            await peer.send(OK)
        await peer.gone()

    async with serving(play) as server:
        client = _client(transport, timeout=None)
        await asyncio.gather(client.get(server.url), client.get(server.url))
        hanging = asyncio.create_task(client.get(f"{server.url}hang"))
        await server.received(3)
        await transport.aclose()
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
        await server.all_ended()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(server.url)
        await client.aclose()


@pytest.mark.parametrize("give_up", ["cancel", "close"])
async def test_stuck_upload(give_up: str) -> None:
    """A server that reads no more holds up neither a cancelled upload's socket nor the closing of the transport."""
    size = 30_000_000  # more than the kernel takes
    transport = AiohttpTransport(max_connections=1)
    stuck, given_up, cut = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.reader.readexactly(1)
        stuck.set()
        await given_up.wait()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await peer.reader.readexactly(size)
        cut.set()

    async with serving(play) as server, _client(transport, timeout=None) as client:
        task = asyncio.create_task(client.post(server.url, content=b"x" * size))
        await stuck.wait()
        if give_up == "cancel":
            task.cancel()
        else:
            await transport.aclose()
        with pytest.raises((asyncio.CancelledError, httpx.TransportError)):
            await task
        given_up.set()
        await cut.wait()


async def test_closed_before_written() -> None:
    """A body whose connection is found closed before a byte was written was never sent."""

    class Closing:
        """A transport that the server has just closed."""

        def is_closing(self) -> bool:
            return True

        def abort(self) -> None:
            pass

    writer = StreamWriter(cast("Any", types.SimpleNamespace(transport=Closing())), asyncio.get_running_loop())
    body = _Body(httpx.ByteStream(b"body"), 4, None)
    with pytest.raises(httpx.ConnectError):
        await body.write(writer)
    assert isinstance(body.failure, httpx.ConnectError)


async def test_closed_while_written() -> None:
    """A kept connection that the server closes just as the request is written: it may have been acted on."""
    close = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(OK)
        await close.wait()

    async with serving(play) as server, _client(AiohttpTransport()) as client:
        for method in ("GET", "POST"):
            await client.get(server.url)
            close.set()
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await client.request(method, server.url)
            close.clear()
        assert len(server.requests) == 2


async def test_cause() -> None:
    """An error of httpx's keeps what aiohttp said as its cause."""
    async with _client(AiohttpTransport()) as client:
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1:1") as raised:
            await client.get("http://127.0.0.1:1/")
    assert type(raised.value.__cause__).__name__ == "ClientConnectorError"
    assert raised.value.request.url == "http://127.0.0.1:1/"


async def test_secret_query() -> None:
    """No error's text quotes the URL's query."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(b"220 mail.example ESMTP\r\n\r\n")

    async with serving(play) as server, _client(AiohttpTransport()) as client:
        url = f"{server.url}?token=secret"
        with pytest.raises(httpx.ConnectTimeout) as timeout:
            await client.get(url, timeout=httpx.Timeout(None, connect=0))
        with pytest.raises(httpx.RemoteProtocolError) as malformed:
            await client.get(url)
    assert "secret" not in f"{timeout.value} {malformed.value}"


@pytest.mark.parametrize("pieces", [[b"ab"], [b"abc", b"def"], []])
async def test_wrong_length(pieces: list[bytes]) -> None:
    """A body of another length than declared is refused, and the rest of it is no next request."""
    async with serving(OK) as server, _client(AiohttpTransport(max_connections=1)) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.post(server.url, content=_stream(*pieces), headers={"content-length": "4"})
        assert server.requests == []
        assert (await client.get(server.url)).content == b"ok"


@pytest.mark.parametrize("headers", [{b"x-a": b"\xff"}, {b"content-length": b"many"}])
async def test_malformed_request(headers: dict[bytes, bytes]) -> None:
    """A request that cannot be sent as it is, is refused."""
    async with serving(OK) as server, _client(AiohttpTransport()) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.post(server.url, headers=headers)
        assert server.requests == []


@pytest.mark.parametrize(("expiry", "connections"), [(0.0, 3), (60.0, 1)])
async def test_keepalive_expiry(expiry: float, connections: int) -> None:
    """A connection that has been idle for too long is not used again."""
    async with serving(OK) as server, _client(AiohttpTransport(keepalive_expiry=expiry)) as client:
        for _ in range(3):
            await client.get(server.url)
        assert server.connections == connections


async def test_zero_timeouts() -> None:
    """A timeout of zero is no time, not any time."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.hang()

    async with serving(play) as server, _client(AiohttpTransport(max_connections=1)) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(server.url, timeout=httpx.Timeout(None, connect=0))
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url, timeout=httpx.Timeout(None, read=0))


def test_two_loops() -> None:
    """A transport that has served one loop tells another one that it cannot."""
    transport = AiohttpTransport()

    async def call() -> None:
        async with serving(OK) as server:
            await _client(transport).get(server.url)

    async def call_and_close() -> None:
        async with serving(OK) as server, _client(transport) as client:
            await client.get(server.url)

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(call())
        with pytest.raises(RuntimeError, match="another event loop"):
            other.run(call())
        one.run(call_and_close())


def test_nothing_before_use() -> None:
    """A transport can be made, and closed, where no loop runs."""
    asyncio.run(AiohttpTransport().aclose())


def test_no_connections() -> None:
    """A pool without a connection is refused at once."""
    with pytest.raises(ValueError, match="max_connections"):
        AiohttpTransport(max_connections=0)
