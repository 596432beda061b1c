"""One log line for each request, within its span, in the place of the server's access log.

It also knows the request that is being served, for the log records written meanwhile, and notices a client that hung
up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextvars import ContextVar

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.telemetry import CLIENT_DISCONNECTED

logger = logging.getLogger(__name__)

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})

_current: ContextVar[Scope | None] = ContextVar("clearspan.request", default=None)


def current_route() -> str | None:
    """The route template of the request being served, such as `/orders/{order_id}`; None outside or before routing."""
    scope = _current.get()
    return None if scope is None else _route(scope)


class RequestLog:
    """ASGI middleware inside the server span: logs each request once, when its response is complete.

    Level INFO; ERROR with the stack for an exception that nobody handled, which then goes on to the server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        token = _current.set(scope)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            exchange.disconnected = True
            exchange.mark()
            exchange.log(scope, logging.WARNING)
            raise
        except Exception as error:
            exchange.status = exchange.status or 500
            exchange.log(scope, logging.ERROR, error)
            raise
        else:
            exchange.log(scope, logging.INFO)
        finally:
            _current.reset(token)


class _Exchange:
    """One request and its response as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._body_read = not any(name in _BODY_HEADERS for name, _ in scope["headers"])
        self._complete = False
        self.status: int | None = None
        self.disconnected = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._hung_up()
        elif not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        final = message["type"] == "http.response.body" and not message.get("more_body", False)
        if final and self._body_read and not self.disconnected:
            self._look_for_hang_up()
        if final:
            self._complete = True
        await self._send(message)

    def _look_for_hang_up(self) -> None:
        """Ask the server, without waiting, whether the client is still there.

        Once the request's body is read, or where there is none, only a disconnect can come, after a last empty message.
        The server tells of it when it is asked, so a handler that never asks would be logged as if its answer had been
        read.
        """
        while (message := _ready(self._receive())) is not None:
            if message["type"] == "http.disconnect":
                self._hung_up()
                return

    def _hung_up(self) -> None:
        if not self._complete:
            self.disconnected = True
            self.mark()

    def mark(self) -> None:
        trace.get_current_span().set_attribute(CLIENT_DISCONNECTED, True)

    def log(self, scope: Scope, level: int, error: Exception | None = None) -> None:
        milliseconds = (time.perf_counter() - self._started) * 1000
        path = scope["path"]
        outcome = "client hung up" if self.disconnected else str(self.status or "no response")
        attributes: dict[str, object] = {
            "http.request.method": scope["method"],
            "url.path": path,
            "http.server.request.duration": milliseconds / 1000,
        }
        if self.status is not None:
            attributes["http.response.status_code"] = self.status
        if self.disconnected:
            attributes[CLIENT_DISCONNECTED] = True
        logger.log(
            level, "%s %s %s %.1f ms", scope["method"], path, outcome, milliseconds, extra=attributes, exc_info=error
        )


def _ready(receiving: Awaitable[Message]) -> Message | None:
    """The message if it is there already. Else None, and the waiting is given up before it began.

    One step by hand spares each request the turn of the event loop that a time limit of zero would take.
    """
    steps = receiving.__await__()
    try:
        next(steps)
    except StopIteration as end:
        message: Message = end.value
        return message
    steps.close()
    return None


def _route(scope: Scope) -> str | None:
    return getattr(scope.get("route"), "path_format", None)
