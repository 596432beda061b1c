"""The time by which the request that is being served has to be answered.

Nobody waits for an answer that comes later: so the work for it ends, and the calls that it makes get no more time than
is left.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.problems import problem

TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in milliseconds.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
"""

REQUEST_TIMEOUT_S = 30.0

_MAX_DIGITS = 9  # of milliseconds: eleven days

_deadline: ContextVar[float] = ContextVar("clearspan.deadline", default=float("inf"))


def current_deadline() -> float:
    """When the request that is being served has to be answered, in the event loop's time; infinite outside of one."""
    return _deadline.get()


def context_without_deadline() -> Context:
    """A copy of the current context, for work that others wait for too when this request's time is over."""
    context = copy_context()
    context.run(_deadline.set, float("inf"))
    return context


class RequestDeadline:
    """ASGI middleware that ends a request whose answer has not begun in time, with 504.

    Args:
        app: Serves the request.
        timeout_s: Seconds until the answer has to begin; a stream may then last as long as it likes.
        believe_caller: Whether a caller that waits less long may say so, which a stranger may not.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float = REQUEST_TIMEOUT_S, believe_caller: bool = False) -> None:
        self.app = app
        self._timeout_s = timeout_s
        self._believe_caller = believe_caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = self._timeout_s
        if self._believe_caller:
            seconds = min(seconds, _caller_waits(scope))
        deadline = asyncio.get_running_loop().time() + seconds
        limit = asyncio.timeout_at(deadline)
        answered = False

        async def watching_send(message: Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                limit.reschedule(None)
            await send(message)

        token = _deadline.set(deadline)
        try:
            async with limit:
                if seconds <= 0:
                    await asyncio.sleep(0)  # is cancelled here: a handler that waits for nothing would answer
                await self.app(scope, receive, watching_send)
        except TimeoutError:
            if answered or not limit.expired():
                raise
            detail = f"The answer was not ready within {seconds:.3g} s, which is as long as it is waited for."
            await problem(504, "Gateway Timeout", detail)(scope, receive, send)
        finally:
            _deadline.reset(token)


def _caller_waits(scope: Scope) -> float:
    value = Headers(scope=scope).get(TIMEOUT_HEADER, "")
    return int(value) / 1000 if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS else float("inf")
