"""Bounds on what a request may bring: the size and duration of its body, and the number and size of its headers.

uvicorn and Starlette set none beyond the HTTP parser's own. The body is counted as it arrives, since a chunked body
declares no length and a declared length may lie.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.problems import problem

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 30.0
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024


class RequestLimits:
    """ASGI middleware that answers beyond the bounds: 413 and 408 for a body, 431 for headers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_timeout_s: float = BODY_TIMEOUT_S,
        max_headers: int = MAX_HEADERS,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
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
            await problem(431, HTTPStatus(431).phrase, detail, headers={"connection": "close"})(scope, receive, send)
            return
        if self._declared_length(headers) > self._max_body_bytes:
            await self._too_large().answer(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._body_timeout_s
        received = 0
        complete = False
        answered = False

        async def bounded_receive() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # waits for the client to hang up, however long that takes
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        async def watching_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, bounded_receive, watching_send)
        except _RefusedBodyError as refusal:
            if answered:
                raise
            await refusal.answer(scope, receive, send)

    def _too_large(self) -> _RefusedBodyError:
        return _RefusedBodyError(413, f"At most {self._max_body_bytes} bytes are accepted as a request body.")

    def _too_slow(self) -> _RefusedBodyError:
        return _RefusedBodyError(408, f"A request body has to arrive within {self._body_timeout_s:g} s.")

    @staticmethod
    def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0


class _RefusedBodyError(HTTPException):
    """Raised where the body is read: FastAPI hands an HTTPException through its body parsing as it is."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail, headers={"connection": "close"})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        title = HTTPStatus(self.status_code).phrase
        await problem(self.status_code, title, self.detail, headers=self.headers)(scope, receive, send)
