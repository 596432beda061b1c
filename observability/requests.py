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
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.body import may_have_body
from observability.connection import client_has_gone
from observability.line import Line
from observability.telemetry import CLIENT_DISCONNECTED

logger = logging.getLogger(__name__)

_LOGGED = "_clearspan_logged"
_NORMAL_CLOSURE, _CONNECTION_LOST = 1000, 1006  # RFC 6455, section 7.4.1

_SERVER_ERROR = 500

_current: ContextVar[Scope | None] = ContextVar("clearspan.request", default=None)


def current_route() -> str | None:
    """The route template of the request being served, such as `/orders/{order_id}`; None outside or before routing."""
    scope = _current.get()
    return None if scope is None else _route(scope)


def mark_logged(error: BaseException) -> None:
    """Note that a line has told of this exception, with its stack."""
    setattr(error, _LOGGED, True)


def was_logged(error: BaseException | None) -> bool:
    """Whether a line has told of this exception, with its stack."""
    return getattr(error, _LOGGED, False)


class RequestLog:
    """ASGI middleware inside the server span: logs each request once, when its response is complete.

    Level INFO; WARNING if the server cancelled it; ERROR with the stack for an exception that nobody handled, which
    then goes on to the server. A WebSocket is logged once, when it is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._line = Line(logger, "%s %s %s %.1f ms")

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self.app(scope, receive, send)
        return self._serve(scope, _Exchange(scope, receive, send, self._line))

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        token = _current.set(scope)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.fail(error)
            raise
        else:
            exchange.log(logging.INFO)
        finally:
            _current.reset(token)


class _Exchange:
    """One request and its response, or one WebSocket, as they pass by."""

    __slots__ = (
        "_body_read",
        "_close_code",
        "_complete",
        "_disconnected",
        "_line",
        "_logged",
        "_receive",
        "_scope",
        "_send",
        "_span",
        "_started",
        "_status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, line: Line) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._line = line
        self._span = trace.get_current_span()  # the server's; inside there may be others
        self._started = time.perf_counter()
        self._body_read = not may_have_body(scope)
        self._status: int | None = None
        self._close_code: int | None = None
        self._disconnected = False
        self._complete = False
        self._logged = False

    async def receive(self) -> Message:
        message = await self._receive()
        match message["type"]:
            case "http.disconnect":
                self._hung_up()
            case "websocket.disconnect":
                self._close_code = message.get("code")
                if self._close_code == _CONNECTION_LOST:
                    self._hung_up()
            case "http.request" if not message.get("more_body", False):
                self._body_read = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False):
                return self._send_last(message)
        elif kind == "http.response.start":
            self._status = message["status"]
        elif kind == "websocket.close":
            self._close_code = message.get("code", _NORMAL_CLOSURE)
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        if not self._disconnected:
            self._look_for_hang_up()
        await self._send(message)
        self._complete = True
        if self._status is not None and self._status < _SERVER_ERROR:
            self.log(logging.INFO)  # without waiting for background tasks; after a 500 its exception may follow

    def fail(self, error: BaseException) -> None:
        """Log an exception that nobody handled. The span of an `Exception` has it already, by contrib's middleware."""
        if isinstance(error, asyncio.CancelledError):
            if not self._disconnected:
                self._span.set_status(StatusCode.ERROR, "cancelled by the server")
            self.log(logging.WARNING)
            return
        if not isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, type(error).__name__)
        self.log(logging.ERROR, error)
        mark_logged(error)

    def log(self, level: int, error: BaseException | None = None) -> None:
        if self._logged:
            if error is not None:
                logger.error("%s %s failed after its response", *self._request(), exc_info=error)
            return
        self._logged = True
        seconds = time.perf_counter() - self._started
        scope = self._scope
        attributes: dict[str, Any] = {"url.path": scope["path"]}
        if scope["type"] == "http":
            attributes["http.request.method"] = scope["method"]
            attributes["http.server.request.duration"] = seconds
        if self._status is not None:
            attributes["http.response.status_code"] = self._status
        if self._disconnected:
            attributes[CLIENT_DISCONNECTED] = True
        self._line.log(level, (*self._request(), self._outcome(level), seconds * 1000), attributes, error)

    def _look_for_hang_up(self) -> None:
        """Ask the server, without waiting, whether the client is still there.

        The kit's own server is asked for its state. Another one tells of it by a message: once the request's body is
        read, or where there is none, only a disconnect can come, after a last empty message. So a handler that never
        asks would be logged as if its answer had been read.
        """
        gone = client_has_gone(self._scope)
        if gone is not None:
            if gone:
                self._hung_up()
            return
        if not self._body_read:
            return
        for _ in range(2):
            message = _ready(self._receive())
            if message is not None and message["type"] == "http.disconnect":
                self._hung_up()

    def _hung_up(self) -> None:
        if not self._complete:
            self._disconnected = True
            self._span.set_attribute(CLIENT_DISCONNECTED, True)

    def _request(self) -> tuple[str, str]:
        return self._scope.get("method", "WEBSOCKET"), self._scope["path"]

    def _outcome(self, level: int) -> str:
        if self._disconnected:
            return "client hung up"
        if self._scope["type"] == "websocket":
            return "closed" if self._close_code is None else f"closed {self._close_code}"
        if level == logging.WARNING:
            return "cancelled by the server"
        return str(self._status or (500 if level == logging.ERROR else "no response"))


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
