"""A request on a connection that is kept: its bytes are written in one piece, and aiohttp's parser reads the answer.

aiohttp's session does for each request what is only needed for few: merges headers, looks for cookies, proxies,
credentials and redirects, and makes a request and an answer of its own of what httpx has made already. That takes twice
as long as all else. So a request whose bytes are at hand goes to a kept connection of its connector directly; all
others go through the session, those that have to make a connection too.

The parts of aiohttp that are used here are not in its documentation, and are looked at before they are used.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey

_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

_MAX_BODY_BYTES: Final = 32 * 1024
"""Less than a connection buffers before it asks its writer to wait, so that none has to."""

_MAX_ORIGINS: Final = 256
"""Servers that are remembered; then they are forgotten and learned again."""

_CONTROLS: Final = bytes(code for code in (*range(32), 127) if code not in b"\t\n")
"""No line of a request's head has one of these. A tab may be within one, and the end of a line is looked at apart."""

_PARAMETERS: Final = frozenset(
    {"skip_payload", "read_until_eof", "auto_decompress", "read_timeout", "timeout_ceil_threshold"}
)

logger = logging.getLogger(__name__)


class Received:
    """The head of an answer, and its body, which has come or will come.

    Attributes:
        status: The answer's.
        version: Of HTTP.
        reason: The answer's; may be empty.
        raw_headers: As they came.
        content: The body.
    """

    __slots__ = ("_connection", "content", "raw_headers", "reason", "status", "version")

    def __init__(self, head: Any, content: aiohttp.StreamReader, connection: Any) -> None:  # noqa: ANN401 - of aiohttp
        self.status: int = head.code
        self.version: aiohttp.HttpVersion = head.version
        self.reason: str | None = head.reason
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = head.raw_headers
        self.content = content
        self._connection = connection

    def close(self) -> None:
        """Give the connection back if the answer has come whole, else drop it."""
        self._connection.close()


class Connector(aiohttp.TCPConnector):
    """Gives no kept connection away on which something came that nobody asked for.

    aiohttp would take that for the answer to the next request.
    """

    async def _get(self, *arguments: Any) -> aiohttp.connector.Connection | None:  # noqa: ANN401 - of aiohttp
        while (connection := await super()._get(*arguments)) is not None:
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close and not protocol.writing_paused:
                return connection
            connection.close()
        return None


class KeptConnections:
    """The connections that a connector keeps, by the servers that they go to.

    Args:
        connector: Keeps them.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector: Any = connector
        self._keys: dict[tuple[str, bytes], ConnectionKey] = {}
        self._unanswered: set[asyncio.WriteTransport] = set()

    @classmethod
    def of(cls, connector: Connector) -> Self | None:
        """Those of a connector; None if this version of aiohttp is not the one that is known here."""
        get = getattr(aiohttp.TCPConnector, "_get", None)
        known = (
            inspect.iscoroutinefunction(get)
            and list(inspect.signature(get).parameters) == ["self", "key", "traces"]
            and inspect.signature(ResponseHandler.set_response_params).parameters.keys() >= _PARAMETERS
        )
        if not known:
            logger.warning("this version of aiohttp is not known: calls cost more")
            return None
        return cls(connector)

    def learn(self, url: httpx.URL, key: ConnectionKey) -> None:
        """Remember under which key the connector keeps the connections of a URL's server."""
        if len(self._keys) >= _MAX_ORIGINS:
            self._keys.clear()
        self._keys[url.scheme, url.netloc] = key

    async def send(self, request: httpx.Request, message: bytes, read_timeout: float | None) -> Received | None:
        """Send a request on a kept connection, and wait for the head of its answer; None if there is no connection.

        Args:
            request: What the message is.
            message: The request, as `encode` makes it.
            read_timeout: How long the server may be silent, in seconds.

        Raises:
            aiohttp.ClientError: There is no answer.
            aiohttp.http.HttpProcessingError: The answer is no HTTP.
        """
        key = self._keys.get((request.url.scheme, request.url.netloc))
        connection = None if key is None else await self._connector._get(key, [])  # noqa: SLF001 - it never waits
        if connection is None:
            return None
        protocol: ResponseHandler = connection.protocol
        transport = protocol.transport
        assert transport is not None  # noqa: S101 - or the connector would not have given it away
        protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=read_timeout,
            timeout_ceil_threshold=math.inf,
        )
        self._unanswered.add(transport)
        try:
            protocol.start_timeout()
            transport.write(message)
            head, content = await protocol.read()
            while head.code < 200 and head.code != 101:  # noqa: PLR2004 - interim answers
                protocol.start_timeout()  # which an answer without a body has ended
                head, content = await protocol.read()
        except BaseException:
            transport.abort()  # close() would wait for a server that does not read
            connection.close()
            raise
        finally:
            self._unanswered.discard(transport)
        content.on_eof(connection.release)
        return Received(head, content, connection)

    def abort(self) -> None:
        """Wait no longer for the heads of answers."""
        for transport in self._unanswered:
            transport.abort()


def encode(request: httpx.Request) -> bytes | None:
    """The bytes of a request; None if its body is not at hand or long, or if it has to be looked at more closely."""
    stream = request.stream
    if type(stream) is not httpx.ByteStream or request.method not in _METHODS:
        return None
    body = b"".join(stream)
    lines = [
        b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path),
        *map(b": ".join, request.headers.raw),
    ]
    text = b"\n".join(lines)
    lower = text.lower() + b"\n"
    lengths = lower.count(b"\ncontent-length:")
    framed = lengths == 1 and b"\ncontent-length: %d\n" % len(body) in lower if body or lengths else True
    plain = text.isascii() and text.count(b"\n") == len(lines) - 1 and len(text.translate(None, _CONTROLS)) == len(text)
    if not framed or not plain or len(body) > _MAX_BODY_BYTES or b"\ntransfer-encoding:" in lower:
        return None
    return b"%b\r\n\r\n%b" % (text.replace(b"\n", b"\r\n"), body)
