"""Bounds on requests: how many at once, the number and size of headers, the size of the body, and the body's time.

The size of the body is FastAPI's own `max_body_size`, of the application or of a route; the kit sets it where the
application does not. uvicorn and Starlette bound the rest no further than the HTTP parser does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.body import may_have_body
from observability.problems import TOO_LARGE, problem

MAX_REQUESTS = 1000
MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 30.0
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024


class ConcurrencyLimit:
    """ASGI middleware that serves so many requests at once and answers 503 to one more, before it costs anything.

    Args:
        app: Serves the requests.
        max_requests: Requests that are served at once.
    """

    def __init__(self, app: ASGIApp, *, max_requests: int = MAX_REQUESTS) -> None:
        self.app = app
        self._max_requests = max_requests
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._served >= self._max_requests:
            detail = f"{self._max_requests} requests are being served; ask again."
            answer = problem(503, HTTPStatus(503).phrase, detail, headers={"retry-after": "1"})
            await answer(scope, receive, send)
            return
        self._served += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._served -= 1


class RequestLimits:
    """ASGI middleware that answers 431 for headers and 408 for a body beyond the bounds.

    What Starlette answers in plain text to a body that nobody reads and that declares too great a length, becomes a
    problem.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
        max_headers: int = MAX_HEADERS,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self.app = app
        self._body_timeout_s = body_timeout_s
        self._max_headers = max_headers
        self._max_header_bytes = max_header_bytes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
        if len(headers) > self._max_headers or size > self._max_header_bytes:
            detail = f"At most {self._max_headers} headers and {self._max_header_bytes} bytes of them are accepted."
            return _refuse(431, detail, scope, receive, send)
        if not may_have_body(scope):
            return self.app(scope, receive, send)  # there is nothing to wait for, and nothing that is too large
        return self._serve_body(scope, receive, send)

    async def _serve_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive, send, self._body_timeout_s)
        try:
            await self.app(scope, body.receive, body.send)
        except _SlowBodyError as error:
            if body.answered:
                raise
            await _refuse(error.status_code, error.detail, scope, receive, send)


def limit_bodies_only(stack: ASGIApp) -> None:
    """Let requests without a body pass by what limits its size, in a stack of middlewares that is complete."""
    layer: Any = stack
    while (inner := getattr(layer, "app", None)) is not None:
        if isinstance(inner, RequestBodyLimitMiddleware):
            layer.app = _BodiesOnly(inner)
        layer = inner


class _BodiesOnly:
    def __init__(self, limited: RequestBodyLimitMiddleware) -> None:
        self.app = limited
        self._unlimited = limited.app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or may_have_body(scope):
            return self.app(scope, receive, send)
        return self._unlimited(scope, receive, send)


class _Body:
    """A request's body and the answer to it, as they pass by."""

    __slots__ = ("_complete", "_deadline", "_receive", "_replaced", "_scope", "_send", "_timeout_s", "answered")

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout_s: float) -> None:
        self.answered = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._complete = False
        self._replaced = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()  # waits for the client to hang up, however long that takes
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise _SlowBodyError(self._timeout_s) from None
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_plain_413(message):
            self._replaced = True
            await _refuse(413, TOO_LARGE, self._scope, self._receive, self._send)
        self.answered = True
        if not self._replaced:
            await self._send(message)


class _SlowBodyError(HTTPException):
    """Raised where the body is read: FastAPI hands an HTTPException through its body parsing as it is."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(408, f"A body has to arrive within {timeout_s:g} s.", headers={"connection": "close"})


def _is_plain_413(message: Message) -> bool:
    if message["status"] != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return False
    return Headers(raw=list(message.get("headers", ()))).get("content-type", "").startswith("text/plain")


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(status, HTTPStatus(status).phrase, detail, headers={"connection": "close"})
    await answer(scope, receive, send)
