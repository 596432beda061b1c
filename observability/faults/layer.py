"""Where requests meet the faults that are in force."""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.connection import cut_of
from observability.faults.fault import Fault, Faults
from observability.problems import problem
from observability.telemetry import FAULT

_NOT_JSON = b"<html><body>This is not JSON.</body></html>"
_PIECES = 10


class FaultLayer:
    """ASGI middleware within the server span, which says what was done to the request (`clearspan.fault`).

    It stands around the service's own time limits and bounds, as a slow network or a sick machine does: they must not
    mend what it breaks.
    """

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._faults.draw(scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self.app(scope, receive, send)
            return
        trace.get_current_span().set_attribute(FAULT, fault.kind)
        match fault.kind:
            case "latency":
                await asyncio.sleep(fault.delay_s)
                await self.app(scope, receive, send)
            case "error":
                await _fail(fault.status, scope, receive, send)
            case "hang":
                await self._hang(fault, scope, receive, send)
            case "reset":
                _cut(scope, reset=True)
            case "truncated":
                await self.app(scope, receive, _truncated(scope, send))
            case "slow_body":
                await self.app(scope, receive, _slow(fault.delay_s, send))
            case "not_json":
                await self.app(scope, receive, _not_json(send))

    async def _hang(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._faults.in_force().get(fault, 0.0)):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:  # the fault is over and the caller still there
            await _fail(503, scope, receive, send)


async def _fail(status: int, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(status, "Fault", "This answer was asked for at /faults.")(scope, receive, send)


def _cut(scope: Scope, *, reset: bool) -> None:
    cut = cut_of(scope)
    if cut is None:
        raise RuntimeError("only the kit's own server can cut a connection")
    cut(reset=reset)


def _truncated(scope: Scope, send: Send) -> Send:
    async def truncating(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        await send({**message, "body": body[: len(body) // 2], "more_body": True})
        _cut(scope, reset=False)

    return truncating


def _slow(seconds: float, send: Send) -> Send:
    async def trickling(message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            size = max(1, math.ceil(len(body) / _PIECES))
            for start in range(0, len(body), size):
                await send({**message, "body": body[start : start + size], "more_body": True})
                await asyncio.sleep(seconds / _PIECES)
            message = {**message, "body": b""}
        await send(message)

    return trickling


def _not_json(send: Send) -> Send:
    has_body = True

    async def replacing(message: Message) -> None:
        nonlocal has_body
        if message["type"] == "http.response.start":
            has_body = message["status"] not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
            if has_body:
                headers = [header for header in message["headers"] if header[0].lower() != b"content-length"]
                headers.append((b"content-length", str(len(_NOT_JSON)).encode()))
                message = {**message, "headers": headers}
        elif has_body and message["type"] == "http.response.body":
            if message.get("more_body", False):
                return
            message = {**message, "body": _NOT_JSON}
        await send(message)

    return replacing
