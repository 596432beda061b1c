"""Bounds on what a request may bring: the size of its body, and the number and size of its headers.

uvicorn and Starlette set none beyond the HTTP parser's own. The body is counted as it arrives, since a chunked body
declares no length and a declared length may lie.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.problems import problem

MAX_BODY_BYTES = 1024 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024


class RequestLimits:
    """ASGI middleware that answers 413 for a body and 431 for headers beyond the bounds."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_headers: int = MAX_HEADERS,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_headers = max_headers
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if (
            len(headers) > self._max_headers
            or sum(len(name) + len(value) for name, value in headers) > self._max_header_bytes
        ):
            detail = f"At most {self._max_headers} headers and {self._max_header_bytes} bytes of them are accepted."
            await problem(431, "Request header fields too large", detail, headers={"connection": "close"})(
                scope, receive, send
            )
            return
        if self._declared_length(headers) > self._max_body_bytes:
            await self._refuse_body(scope, receive, send)
            return
        received = 0
        answered = False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                # FastAPI hands an HTTPException through its body parsing as it is.
                raise _BodyTooLargeError(self._max_body_bytes)
            return message

        async def watching_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counting_receive, watching_send)
        except _BodyTooLargeError:
            if answered:
                raise
            await self._refuse_body(scope, receive, send)

    async def _refuse_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = _BodyTooLargeError(self._max_body_bytes)
        await problem(413, "Content too large", response.detail, headers=response.headers)(scope, receive, send)

    @staticmethod
    def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0


class _BodyTooLargeError(HTTPException):
    def __init__(self, max_body_bytes: int) -> None:
        detail = f"At most {max_body_bytes} bytes are accepted as a request body."
        super().__init__(413, detail, headers={"connection": "close"})
