"""One whole exchange: a request, and its answer to the last byte, within the attempt's span and time.

An answer that breaks off in its body is a failed attempt like any other, and no dependency can fill the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import httpx
from opentelemetry import trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import StatusCode

from observability.resilience.call import call_of
from observability.resilience.errors import AnswerTooLarge

_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""One of these at most: two of them, one in the other, make a million times as much of a byte."""

_PIECE_BYTES = 8 * 1024
"""What is inflated at once: gzip makes at most a thousand times as much of it."""

_OF_THE_WIRE = (b"content-encoding", b"transfer-encoding", b"content-length")


class WholeExchange(httpx.AsyncBaseTransport):
    """Reads the answer whole, inflated, before it is passed on.

    Args:
        inner: The connection's transport.
        max_answer_bytes: Of an answer's body, inflated.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, max_answer_bytes: int) -> None:
        self._inner = inner
        self._max_answer_bytes = max_answer_bytes
        self._settable = _content_is_settable()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange a request for its answer.

        Raises:
            AnswerTooLarge: The body is longer than is read.
            httpx.TransportError: There is no whole answer.
        """
        try:
            response = await self._inner.handle_async_request(request)
            try:
                return await self._whole(request, response)
            finally:
                await response.aclose()
        except asyncio.CancelledError:
            # contrib's span ends without a word at a cancellation, as if the attempt had gone well.
            why = call_of(request.extensions).why_cancelled()
            trace.get_current_span().set_attribute(ERROR_TYPE, why)
            trace.get_current_span().set_status(StatusCode.ERROR, why)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _whole(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if request.method == "HEAD" or response.status_code == httpx.codes.NOT_MODIFIED:
            return _bodiless(response)
        encoded = "content-encoding" in response.headers
        if not encoded and isinstance(response.stream, httpx.ByteStream):  # it has come whole with its head
            return self._at_hand(response, response.stream)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise httpx.RemoteProtocolError(f"the answer's content-encoding {encoding[:64]!r} was not asked for")
        # Most answers are plain, and httpx's decoding takes as long as all the rest of the chain.
        stream = _inflated(response) if encoded else response.stream
        assert isinstance(stream, AsyncIterable)  # noqa: S101 - of an async transport
        body = bytearray()
        async for chunk in stream:
            body += chunk
            self._bound(len(body))
        return _plain(response, bytes(body))

    def _at_hand(self, response: httpx.Response, stream: httpx.ByteStream) -> httpx.Response:
        body = b"".join(stream)
        self._bound(len(body))
        if response.headers.get("content-length") != str(len(body)) or "transfer-encoding" in response.headers:
            return _plain(response, body)
        if self._settable:
            _set_content(response, body)
        else:
            response.read()
        return response

    def _bound(self, length: int) -> None:
        if length > self._max_answer_bytes:
            raise AnswerTooLarge(f"the answer is longer than {self._max_answer_bytes} bytes")


def _bodiless(response: httpx.Response) -> httpx.Response:
    """One whose headers tell of the body that a GET would be given, so that they stay as they are."""
    bodiless = httpx.Response(response.status_code, content=b"", extensions=response.extensions)
    bodiless.headers = response.headers
    return bodiless


def _plain(response: httpx.Response, body: bytes) -> httpx.Response:
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
    return httpx.Response(response.status_code, headers=headers, content=body, extensions=response.extensions)


def _set_content(response: httpx.Response, body: bytes) -> None:
    """As `response.read()` leaves it, which takes the body through four generators for that."""
    response._content = body  # noqa: SLF001 - see _content_is_settable
    response._num_bytes_downloaded = len(body)  # noqa: SLF001
    response.is_stream_consumed = True
    response.is_closed = True


def _content_is_settable() -> bool:
    """Whether this httpx keeps what was read where it is put here."""
    read = httpx.Response(200, stream=httpx.ByteStream(b"body"))
    read.read()
    put = {"_content": b"body", "_num_bytes_downloaded": 4, "is_stream_consumed": True, "is_closed": True}
    return all(vars(read).get(name) == value for name, value in put.items())


def _inflated(response: httpx.Response) -> AsyncIterator[bytes]:
    return httpx.Response(response.status_code, headers=response.headers, stream=_Pieces(response.stream)).aiter_bytes()


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx.AsyncByteStream)  # noqa: S101 - of an async transport
        async for chunk in self._stream:
            for start in range(0, len(chunk), _PIECE_BYTES):
                yield chunk[start : start + _PIECE_BYTES]
