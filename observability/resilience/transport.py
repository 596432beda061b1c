"""The connections under httpx: aiohttp's connector, with httpx's own classes for what went wrong.

httpx's default pool loses connections for good when calls are cancelled while they wait for one. aiohttp's does not,
and is several times faster; what stands here makes it sound. The class of an error tells what is known of the request:

    httpx.PoolTimeout                  never sent: no connection was free in time
    httpx.ConnectTimeout               never sent: no connection was made in time
    httpx.ConnectError                 never sent: name not resolved, refused, or no TLS
    httpx.UnsupportedProtocol          never sent: neither http nor https
    httpx.LocalProtocolError           malformed by the caller; the server may have seen a part of it
    httpx.WriteTimeout, WriteError     the server may have acted on it
    httpx.ReadTimeout, ReadError       the server may have acted on it
    httpx.RemoteProtocolError          the server may have acted on it; its answer is missing, cut off or no HTTP

What the iterator of a request's body raises comes through as it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from observability.resilience.kept_connections import Connector, KeptConnections, Received, encode

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_MIN_TIMEOUT_S = 1e-6  # aiohttp takes a timeout of zero for none


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections for one event loop, that of its first request.

    It sends a request once and exactly as httpx made it: without cookies, redirects, proxies, credentials or headers
    of its own. A request's `httpx.Timeout` bounds each step: `pool` the wait for a free connection, `connect` name, TCP
    and TLS together, `write` each piece of the body, `read` each silence of the server.

    Args:
        max_connections: How many requests may hold a connection at once; each holds it until its answer
            has come whole or is closed.
        keepalive_expiry: How long an idle connection waits for the next request, in seconds. The default is less than
            uvicorn's 5 seconds: a request on a connection that the server is just closing fails, and nobody can tell
            whether it was read.

    Raises:
        ValueError: `max_connections` is less than one.
    """

    def __init__(self, *, max_connections: int = 100, keepalive_expiry: float = 4.0) -> None:
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._keepalive_expiry = keepalive_expiry
        # Not the connector's own limit, since its queue forgets the others when a call is cancelled in the moment in
        # which it is called up, and since the time in its queue counts as time of connecting.
        self._free = asyncio.Semaphore(max_connections)
        self._unanswered: set[_Outgoing] = set()
        self._session: aiohttp.ClientSession | None = None
        self._kept: KeptConnections | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer's body is still to be read.

        Raises:
            httpx.TransportError: See the module.
            RuntimeError: The transport is closed, or another event loop uses it.
        """
        session, kept = self._open()
        timeout: Mapping[str, float | None] = request.extensions.get("timeout", {})
        message = encode(request) if kept is not None else None
        outgoing = _Outgoing(request, timeout) if message is None else None
        if self._free.locked():
            try:
                async with asyncio.timeout(timeout.get("pool")):
                    await self._free.acquire()
            except TimeoutError as error:
                raise httpx.PoolTimeout("no connection was free in time", request=request) from error
        else:
            await self._free.acquire()  # at once
        received: Received | aiohttp.ClientResponse | None = None
        try:
            if kept is not None and message is not None:
                received = await self._send_kept(kept, request, message, timeout)
            if received is None:
                received = await self._send(session, request, outgoing or _Outgoing(request, timeout), timeout)
        except BaseException:
            self._free.release()
            raise
        return self._answer(received)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        for outgoing in self._unanswered:
            outgoing.abort()
        if self._kept is not None:
            self._kept.abort()
        if self._session is not None:
            await self._session.close()

    async def _send_kept(
        self, kept: KeptConnections, request: httpx.Request, message: bytes, limits: Mapping[str, float | None]
    ) -> Received | None:
        try:
            return await kept.send(request, message, _positive(limits.get("read")))
        except Exception as error:
            raise _translate(error) from error

    async def _send(
        self,
        session: aiohttp.ClientSession,
        request: httpx.Request,
        outgoing: _Outgoing,
        limits: Mapping[str, float | None],
    ) -> aiohttp.ClientResponse:
        self._unanswered.add(outgoing)
        try:
            response = await session.request(
                request.method,
                outgoing.url,
                data=outgoing.body,
                middlewares=(outgoing.send,),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=_positive(limits.get("connect")),
                    sock_read=_positive(limits.get("read")),
                    ceil_threshold=math.inf,  # or timeouts above 5 seconds are rounded up
                ),
            )
        except BaseException:
            outgoing.abort()
            raise
        finally:
            self._unanswered.discard(outgoing)
        if self._kept is not None and outgoing.key is not None:
            self._kept.learn(request.url, outgoing.key)
        return response

    def _answer(self, received: Received | aiohttp.ClientResponse) -> httpx.Response:
        extensions = {"http_version": b"HTTP/1.1" if received.version == aiohttp.HttpVersion11 else b"HTTP/1.0"}
        if received.reason:
            extensions["reason_phrase"] = received.reason.encode(errors="surrogateescape")
        stream: httpx.AsyncByteStream
        if received.content.is_eof() and received.content.exception() is None:  # it has come whole with its head
            stream = httpx.ByteStream(received.content.read_nowait())
            _give_back(received, self._free)
        else:
            stream = _Answer(received, self._free)
        return httpx.Response(received.status, headers=received.raw_headers, stream=stream, extensions=extensions)

    def _open(self) -> tuple[aiohttp.ClientSession, KeptConnections | None]:
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop = loop
            connector = Connector(limit=0, keepalive_timeout=self._keepalive_expiry)
            self._kept = KeptConnections.of(connector)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),  # or it would keep the cookies of every caller
                skip_auto_headers=_AUTO_HEADERS,
                auto_decompress=False,  # httpx does
            )
        elif self._loop is not loop:
            raise RuntimeError("this transport belongs to another event loop: make one for each loop")
        return self._session, self._kept


class _Outgoing:
    """A request on its way from httpx to aiohttp."""

    def __init__(self, request: httpx.Request, timeout: Mapping[str, float | None]) -> None:
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("the URL must begin with http:// or https://", request=request)
        try:
            # All of path and query as the path, since yarl would drop the mark of an empty query.
            self.url = URL.build(
                scheme=request.url.scheme,
                authority=request.url.netloc.decode(),
                path=request.url.raw_path.decode(),
                encoded=True,
            )
            _ = self.url.port  # which is only looked at when it is asked for
            # aiohttp writes them as UTF-8.
            self.headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
            length = None if "transfer-encoding" in request.headers else int(request.headers.get("content-length", 0))
        except ValueError as error:
            raise httpx.LocalProtocolError(f"the request is malformed: {error}", request=request) from error
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous transport takes asynchronous bodies")
        self.key: ConnectionKey | None = None
        empty = length == 0 and isinstance(request.stream, httpx.ByteStream)
        self.body = None if empty else _Body(request.stream, length, timeout.get("write"))

    async def send(
        self, sent: aiohttp.ClientRequest, connect_and_send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Be the last to touch what aiohttp sends, and the first to see how that ends.

        aiohttp would send a GET or PUT again when a kept connection is dropped, but only for errors of its own classes.
        """
        self.key = sent.connection_key
        sent.headers.clear()
        sent.headers.extend(self.headers)
        try:
            return await connect_and_send(sent)
        except Exception as error:
            if self.body is not None and self.body.failure is not None:
                raise self.body.failure from self.body.failure.__cause__
            raise _translate(error) from error

    def abort(self) -> None:
        """Wait no longer for a server that does not read."""
        if self.body is not None:
            self.body.abort()


class _Body(aiohttp.Payload):
    """A request's body, written piece by piece as httpx gives it."""

    def __init__(self, stream: httpx.AsyncByteStream, length: int | None, timeout: float | None) -> None:
        super().__init__(stream)
        self._stream = stream
        self._size = length
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None
        self.failure: Exception | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 # as the base class has it
        raise TypeError("a body is written once, and is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._transport = writer.transport
        try:
            await self._write_all(writer)
        except BaseException as error:
            self.abort()
            if isinstance(error, Exception):
                self.failure = error
            raise

    def abort(self) -> None:
        """Drop the connection at once: close() would wait for a server that does not read."""
        if self._transport is not None:
            self._transport.abort()

    async def _write_all(self, writer: AbstractStreamWriter) -> None:
        if self._transport is None or self._transport.is_closing():  # the request's head is not written yet either
            raise httpx.ConnectError("the connection was closed before the request was written")
        left = self._size
        async for piece in self._stream:
            if left is not None:
                left -= len(piece)
                if left < 0:
                    raise httpx.LocalProtocolError("the body is longer than its Content-Length")
            await self._in_time(writer.write(piece))
        if left:
            raise httpx.LocalProtocolError("the body is shorter than its Content-Length")
        await self._in_time(writer.drain())

    async def _in_time(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await writing
        except TimeoutError as error:
            raise httpx.WriteTimeout("the server did not take the request in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.WriteError(_message(error)) from error


class _Answer(httpx.AsyncByteStream):
    """An answer's body, which holds a connection until it is closed, or read to its end, or forgotten."""

    def __init__(self, received: Received | aiohttp.ClientResponse, free: asyncio.Semaphore) -> None:
        self._received = received
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._received.content.iter_any():
                yield piece
        except Exception as error:
            raise _translate(error) from error

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            _give_back(self._received, self._free)

    def __del__(self) -> None:
        if not self._closed and not self._loop.is_closed():
            # The collector may run in any thread; and aiohttp's answer lives as long as its connection.
            self._loop.call_soon_threadsafe(_give_back, self._received, self._free)


def _give_back(received: Received | aiohttp.ClientResponse, free: asyncio.Semaphore) -> None:
    received.close()  # which keeps the connection of an answer that has come whole
    free.release()


def _translate(error: Exception) -> Exception:
    """Find httpx's class for an error of aiohttp's, by what is known, the most specific first."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind: type[httpx.TransportError] = httpx.ConnectTimeout
        case aiohttp.ClientConnectorError() | aiohttp.InvalidURL() | UnicodeError():  # the last of a host's name
            kind = httpx.ConnectError
        case ValueError():  # of a header that would break out of its line
            kind = httpx.LocalProtocolError
        case aiohttp.ServerTimeoutError():
            kind = httpx.ReadTimeout
        case (
            aiohttp.ServerDisconnectedError()
            | aiohttp.ClientPayloadError()
            | aiohttp.ClientResponseError()
            | HttpProcessingError()
        ):
            kind = httpx.RemoteProtocolError
        case aiohttp.ClientConnectionResetError():
            kind = httpx.WriteError
        case _:
            kind = httpx.ReadError
    return kind(_message(error))


def _message(error: Exception) -> str:
    """What happened, without the URL, whose query is nobody's business."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no connection was made in time"
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return error.message
    return str(error) or type(error).__name__


def _positive(seconds: float | None) -> float | None:
    return None if seconds is None else max(seconds, _MIN_TIMEOUT_S)
