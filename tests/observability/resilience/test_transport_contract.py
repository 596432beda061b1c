"""What a transport promises to httpx and to the steps around it, kept by httpx's own and by ours alike.

Where ours differs, and why that may be:

- It speaks HTTP/1.1 under asyncio only, and heeds neither the `trace` nor the `sni_hostname` extension; an answer has
  no `network_stream`. Nothing here needs them.
- Host stays where the caller has put it; httpx's moves it to the front.
- A body of a wrong length is `httpx.LocalProtocolError`; httpx's lets h11's own error out.
- A header whose bytes are no UTF-8 is refused, since aiohttp could not send it as it is.
- `127.1` and the like are no addresses (`ConnectError`), which is one disguise less for one.
- A line of an answer's head longer than 8,190 bytes, or more than 128 headers, is `RemoteProtocolError`; httpx's
  takes a head of 100 KiB.
- A reset within a body is `RemoteProtocolError`, as if it were cut off; httpx's says `ReadError`. Both mean "sent".
- `read` counts a silence of the server also while nobody reads.
- A name's addresses are remembered for 10 seconds.
- An answer that has come whole gives its connection back before it is closed.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Protocol

import aiohttp
import httpx
import pytest
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from yarl import URL

from observability.resilience.transport import AiohttpTransport
from observability.testing import Recorder
from tests.observability.resilience.wire import OK, Peer, serving

pytestmark = pytest.mark.anyio


class Make(Protocol):
    """Makes a transport."""

    def __call__(self, max_connections: int = 10) -> httpx.AsyncBaseTransport: ...


def _make_httpx(max_connections: int = 10) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(verify=False, limits=httpx.Limits(max_connections=max_connections))


def _make_ours(max_connections: int = 10) -> httpx.AsyncBaseTransport:
    return AiohttpTransport(max_connections=max_connections)


class _Kept(AiohttpTransport):
    """Ours, which keeps a connection to each server before it is asked for one."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _, kept = self._open()
        assert kept is not None
        url = request.url
        if url.scheme == "http" and (url.scheme, url.netloc) not in kept._keys:
            asked = aiohttp.ClientRequest(
                "GET", URL(f"http://{url.netloc.decode()}"), loop=asyncio.get_running_loop(), session=self._session
            )
            with suppress(OSError, TimeoutError, UnicodeError):
                connection = await kept._connector.connect(asked, [], aiohttp.ClientTimeout(connect=0.05))
                connection.release()
            kept.learn(url, asked.connection_key)
        return await super().handle_async_request(request)


def _make_kept(max_connections: int = 10) -> httpx.AsyncBaseTransport:
    return _Kept(max_connections=max_connections)


@pytest.fixture(params=[_make_httpx, _make_ours, _make_kept], ids=["httpx", "ours", "ours, kept"])
def make(request: pytest.FixtureRequest) -> Make:
    """Either transport, ours on a new connection and on a kept one."""
    made: Make = request.param
    return made


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Either loop: services run on uvloop, tests of them on asyncio's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def _client(transport: httpx.AsyncBaseTransport, **settings: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, trust_env=False, **settings)


async def _stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_answer(make: Make) -> None:
    """Status, reason, headers with their repetitions, and the body arrive as they were sent."""
    answer = b"HTTP/1.1 207 Odd\r\nX-One: a\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 4\r\n\r\nbody"
    async with serving(answer) as server, _client(make()) as client:
        response = await client.get(server.url)
    assert (response.status_code, response.reason_phrase, response.http_version) == (207, "Odd", "HTTP/1.1")
    assert response.headers.multi_items() == [("x-one", "a"), ("x-two", "1"), ("x-two", "2"), ("content-length", "4")]
    assert response.content == b"body"


async def test_http_1_0(make: Make) -> None:
    """An answer of HTTP/1.0 ends with its connection."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nuntil ")
        await peer.send(b"the end")

    async with serving(play) as server, _client(make()) as client:
        response = await client.get(server.url)
    assert (response.http_version, response.content) == ("HTTP/1.0", b"until the end")


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
    ],
    ids=["HEAD", "204", "304"],
)
async def test_no_body(make: Make, method: str, answer: bytes) -> None:
    """An answer that can have no body is complete after its head, and its connection goes on."""
    async with serving(answer) as server, _client(make()) as client:
        for _ in range(2):
            assert (await client.request(method, server.url)).content == b""
        assert server.connections == 1


async def test_head_to_the_letter(make: Make) -> None:
    """The head reaches the server exactly as httpx made it: order, case, repetitions, UTF-8, and nothing besides."""
    headers = [
        (b"X-Twice", b"1"),
        (b"x-twice", b"2"),
        (b"aCCept", b"text/x"),
        (b"X-Name", "Zoë".encode()),
        (b"X-Empty", b""),
    ]
    async with serving(OK) as server, _client(make()) as client:
        for method in ("GET", "POST", "DELETE", "PATCH"):
            request = client.build_request(method, f"{server.url}path", headers=headers)
            for name in ("accept-encoding", "user-agent", "connection"):
                del request.headers[name]
            await client.send(request)
            lines = [b"%s /path HTTP/1.1" % method.encode(), *(b"%s: %s" % pair for pair in request.headers.raw)]
            assert server.requests[-1].head == b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    ["a%2Fb%2f", "%00%7E~", "?", "?q=", "?a=1&a=2&", "?q=a+b%20c%2B", "//double//", "a;b=c,d'()*!$&@:", "ä/€?ü=%C3%BC"],
)
async def test_target_to_the_letter(make: Make, target: str) -> None:
    """Path and query reach the server as httpx has encoded them, without a fragment."""
    async with serving(OK) as server, _client(make()) as client:
        await client.get(f"{server.url}{target}#fragment")
        assert server.requests[0].target == httpx.URL(server.url + target).raw_path


async def test_host(make: Make) -> None:
    """A caller's own Host takes the place of the URL's."""
    async with serving(OK) as server, _client(make()) as client:
        await client.get(server.url, headers={"host": "other.example:99"})
    assert server.requests[0].header(b"host") == [b"other.example:99"]


async def test_user_info(make: Make) -> None:
    """A name and password in the URL become the one header that httpx makes of them."""
    async with serving(OK) as server, _client(make()) as client:
        await client.get(f"http://name:word@127.0.0.1:{server.port}/")
    assert server.requests[0].header(b"authorization") == [b"Basic bmFtZTp3b3Jk"]


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\nContent-Type: text/x\r\n\r\nf\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("content", "headers", "framing", "expected"),
    [
        ({"content": b"bytes"}, {}, (["5"], []), b"bytes"),
        ({"content": b""}, {}, (["0"], []), b""),
        ({}, {}, (["0"], []), b""),
        ({"json": {"a": 1}}, {}, (["7"], []), b'{"a":1}'),
        ({"data": {"a": "ä"}}, {}, (["8"], []), b"a=%C3%A4"),
        ({"content": b"x" * 1_000_000}, {}, (["1000000"], []), b"x" * 1_000_000),
        ({"content": [b"it", b"", b"er"]}, {}, ([], ["chunked"]), b"iter"),
        ({"content": []}, {}, ([], ["chunked"]), b""),
        ({"content": [b"x" * 100_000] * 10}, {}, ([], ["chunked"]), b"x" * 1_000_000),
        ({"content": [b"it", b"er"]}, {"content-length": "4"}, (["4"], []), b"iter"),
        (
            {"files": {"f": ("n", b"f", "text/x")}},
            {"content-type": "multipart/form-data; boundary=b"},
            ([str(len(MULTIPART))], []),
            MULTIPART,
        ),
    ],
    ids=["bytes", "b''", "none", "json", "form", "1 MB", "iterator", "no pieces", "1 MB of pieces", "length", "files"],
)
async def test_body(
    make: Make,
    content: dict[str, Any],
    headers: dict[str, str],
    framing: tuple[list[str], list[str]],
    expected: bytes,
) -> None:
    """Each kind of body arrives whole, with the length or in the chunks that httpx has declared."""
    if isinstance(content.get("content"), list):
        content = {"content": _stream(*content["content"])}
    async with serving(OK) as server, _client(make()) as client:
        await client.post(server.url, headers=headers, **content)
    (request,) = server.requests
    assert request.body == expected
    lengths, encodings = ([value.encode() for value in values] for values in framing)
    assert (request.header(b"content-length"), request.header(b"transfer-encoding")) == (lengths, encodings)


async def test_compressed_request(make: Make) -> None:
    """A body that the caller has compressed is sent as it is."""
    async with serving(OK) as server, _client(make()) as client:
        await client.post(server.url, content=gzip.compress(b"body"), headers={"content-encoding": "gzip"})
    assert gzip.decompress(server.requests[0].body) == b"body"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b"body")), ("deflate", zlib.compress(b"body")), ("br", b"\x0b\x01\x80body\x03")],
    ids=["gzip", "deflate", "br"],
)
async def test_compressed_answer(make: Make, encoding: str, body: bytes) -> None:
    """The transport hands an answer over as it was sent, and so httpx decodes it once."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(body))
    async with serving(answer + body) as server, _client(make()) as client:
        async with client.stream("GET", server.url) as response:
            assert b"".join([piece async for piece in response.aiter_raw()]) == body
        if encoding in ("gzip", "deflate"):
            assert (await client.get(server.url)).content == b"body"


async def test_streamed(make: Make) -> None:
    """The first part of an answer can be read before the server has the rest."""
    go_on = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()
        await peer.send(b"4\r\nlast\r\n0\r\nX-Trailer: ignored\r\n\r\n")

    async with serving(play) as server, _client(make()) as client, client.stream("GET", server.url) as response:
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"first"
        go_on.set()
        assert [piece async for piece in pieces] == [b"last"]
        assert "x-trailer" not in response.headers


async def test_reuse(make: Make) -> None:
    """A connection whose answer was read serves the next request; one whose answer was left does not."""
    async with serving(OK) as server, _client(make()) as client:
        for _ in range(3):
            await client.post(server.url, json=1)
        assert server.connections == 1
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    async with serving(answer) as server, _client(make(1)) as client:
        for _ in range(3):
            async with client.stream("GET", server.url):
                pass
        assert server.connections == 3


async def test_server_closes_between(make: Make) -> None:
    """A kept connection that the server has closed meanwhile is not used again."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(OK)

    async with serving(play) as server, _client(make()) as client:
        for expected in (1, 2, 3):
            assert (await client.post(server.url)).content == b"ok"
            assert server.connections == expected
            await server.all_ended()
            await asyncio.sleep(0)  # the client's side of the loop sees it too


async def test_redirect(make: Make) -> None:
    """A redirect is an answer; following it is left to the client."""
    async with serving(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as server:
        async with _client(make()) as client:
            assert (await client.get(server.url)).status_code == 302
        assert len(server.requests) == 1


async def test_cookies(make: Make) -> None:
    """A cookie that one caller was given is not sent with another caller's request over the same transport."""
    transport = make()
    async with serving(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n") as server:
        url = f"http://localhost:{server.port}/"  # a jar keeps no cookies of addresses
        async with _client(transport) as one:
            await one.get(url)
            assert one.cookies == {"a": "b"}
            await _client(transport).get(url)
            await one.get(url)
    assert [request.header(b"cookie") for request in server.requests] == [[], [], [b"a=b"]]


async def test_environment(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Neither a proxy nor a password is taken from the environment."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login name password word\n")
    for name, value in {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "NETRC": netrc}.items():
        monkeypatch.setenv(name, str(value))
        monkeypatch.setenv(name.lower(), str(value))
    async with serving(OK) as server, _client(make()) as client:
        await client.get(server.url)
    assert server.requests[0].header(b"authorization") == []


async def test_pool_timeout(make: Make) -> None:
    """A request that gets no connection in time was not sent, and the next one gets it once it is free."""

    async def play(peer: Peer) -> None:
        while await peer.receive():
            first = len(peer.server.requests) == 1
            await peer.send(OK[:-1] if first else OK)  # what has come whole may have given its connection back

    async with serving(play) as server, _client(make(1), timeout=httpx.Timeout(None, pool=0.05)) as client:
        async with client.stream("GET", server.url):
            with pytest.raises(httpx.PoolTimeout):
                await client.get(server.url)
        assert len(server.requests) == 1
        assert (await client.get(server.url)).content == b"ok"


@pytest.fixture
def full_listener() -> Iterator[int]:
    """The port of a listener whose queue is full: the machine answers no more connects to it."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_connect_timeout(make: Make, full_listener: int) -> None:
    """A connection that is not made in time is told as such."""
    async with _client(make(1), timeout=httpx.Timeout(None, connect=0.05)) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"http://127.0.0.1:{full_listener}/")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "localhost:1", f"{'x' * 64}.invalid", "a..b"])
async def test_connect_error(make: Make, host: str) -> None:
    """A refused connection, or a name that nobody has, is told as never sent."""
    async with _client(make(1)) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await client.post(f"http://{host}/", content=b"body")


async def test_no_tls(make: Make) -> None:
    """A server that speaks no TLS gets no request."""

    async def play(peer: Peer) -> None:
        await peer.reader.readexactly(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(play) as server, _client(make(1)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://127.0.0.1:{server.port}/")
        assert server.requests == []


async def test_scheme(make: Make) -> None:
    """Only http and https are spoken."""
    async with _client(make()) as client:
        for url in ("ftp://127.0.0.1/", "file:///etc/passwd"):
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get(url)


HEAD = b"HTTP/1.1 200 OK\r\n"
DROPS = {
    "after the request": (b"", httpx.RemoteProtocolError),
    "in the head": (HEAD + b"Content-Le", httpx.RemoteProtocolError),
    "in the body": (HEAD + b"Content-Length: 10\r\n\r\npart", httpx.RemoteProtocolError),
    "before the body": (HEAD + b"Content-Length: 10\r\n\r\n", httpx.RemoteProtocolError),
    "in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\npart", httpx.RemoteProtocolError),
    "between chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", httpx.RemoteProtocolError),
    "with no HTTP": (b"220 mail.example ESMTP\r\n\r\n", httpx.RemoteProtocolError),
    "with a bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nmany\r\npart\r\n", httpx.RemoteProtocolError),
    "with two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", httpx.RemoteProtocolError),
}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("moment", DROPS)
async def test_dropped(make: Make, moment: str, method: str) -> None:
    """A connection dropped after the request was sent, also a kept one, is no connect error and not tried again."""
    answer, error = DROPS[moment]

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(OK)
        await peer.receive()
        await peer.send(answer)

    async with serving(play) as server, _client(make(1)) as client:
        await client.get(server.url)
        with pytest.raises(error):
            await client.request(method, server.url)
        assert (server.connections, len(server.requests)) == (1, 2)
        assert (await client.get(server.url)).content == b"ok"


@pytest.mark.parametrize("moment", ["after the request", "in the body"])
async def test_reset(make: Make, moment: str) -> None:
    """A reset connection fails the request once, as one that may have been acted on."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(DROPS[moment][0])
        peer.reset()

    async with serving(play) as server, _client(make(1)) as client:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.get(server.url)
        assert len(server.requests) == 1


@pytest.mark.parametrize("moment", ["after the request", "in the head", "in the body", "between chunks"])
async def test_read_timeout(make: Make, moment: str) -> None:
    """A server that falls silent is left after the read timeout, and its place in the pool is free again."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(DROPS[moment][0])
        await peer.hang()

    async with serving(play) as server, _client(make(1), timeout=httpx.Timeout(None, read=0.05)) as client:
        for expected in (1, 2):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url)
            assert len(server.requests) == expected


async def test_write_timeout(make: Make) -> None:
    """A server that reads no more is left after the write timeout."""

    async def play(peer: Peer) -> None:
        await peer.reader.readexactly(1)
        await peer.hang()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    async with serving(play) as server, _client(make(1), timeout=httpx.Timeout(None, write=0.05)) as client:
        for content in (b"x" * 30_000_000, endless()):
            with pytest.raises(httpx.WriteTimeout):
                await client.post(server.url, content=content)


async def test_body_fails(make: Make) -> None:
    """What the body's iterator raises comes through as it is, and costs no connection."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise KeyError("mine")

    async with serving(OK) as server, _client(make(1)) as client:
        with pytest.raises(KeyError, match="mine"):
            await client.post(server.url, content=failing())
        assert (await client.get(server.url)).content == b"ok"


@pytest.mark.parametrize(
    ("name", "value"), [("x-a", "1\r\nx-b: 2"), ("x-a", "1\n"), ("x-a", "\x00"), ("x-a\r\nx-b", "1")]
)
async def test_header_injection(make: Make, name: str, value: str) -> None:
    """A header that would break out of its line is refused."""
    async with serving(OK) as server, _client(make(1)) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url, headers={name: value})
        assert server.requests == []


async def test_cancelled(make: Make) -> None:
    """A cancelled request gives its place back and drops its connection."""
    dropped = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.gone()
        dropped.set()

    async with serving(play) as server, _client(make(1)) as client:
        for expected in (1, 2):
            dropped.clear()
            task = asyncio.create_task(client.get(server.url))
            await server.received(expected)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await dropped.wait()


async def test_instrumented(make: Make, recorder: Recorder) -> None:
    """Under contrib's transport each call is one client span, whose context the server gets."""
    telemetry = recorder.telemetry("caller")
    transport = AsyncOpenTelemetryTransport(
        make(), tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
    )
    async with serving(OK) as server, _client(transport) as client:
        await client.post(server.url, json=1)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
    sent, failed = recorder.spans
    (context,) = server.requests[0].header(b"traceparent")
    assert sent.context is not None
    assert context == f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-01".encode()
    assert sent.attributes is not None
    assert failed.attributes is not None
    assert sent.attributes["network.protocol.version"] == "1.1"
    assert failed.attributes["error.type"] == "ConnectError"
