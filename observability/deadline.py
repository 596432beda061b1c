"""The time by which the request that is being served has to be answered.

Nobody waits for an answer that comes later: so the work for it ends, and the calls that it makes get no more time than
is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Context, ContextVar, copy_context

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from observability.answer import Answer
from observability.problems import problem
from observability.watch import Limit, Watch

TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in milliseconds.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
"""

REQUEST_TIMEOUT_S = 30.0

_TIMEOUT_HEADER = TIMEOUT_HEADER.encode()
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
        self._watch: Watch | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        seconds = self._timeout_s
        if self._believe_caller:
            seconds = min(seconds, _caller_waits(scope))
        if seconds <= 0:
            return _late(seconds)(scope, receive, send)  # a handler that waits for nothing would answer
        return self._serve(scope, receive, send, seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        watch = self._watch
        if watch is None or watch.loop is not asyncio.get_running_loop():
            watch = self._watch = Watch()  # that of another loop goes on there
        answer = Answer(send)
        limit = Limit(answer, watch.loop.time() + seconds)
        token = _deadline.set(limit.deadline)
        watch.add(limit)
        try:
            await self.app(scope, receive, answer.send)
        except BaseException as error:
            watch.remove(limit)
            late = limit.leave() and isinstance(error, asyncio.CancelledError)
            if answer.begun or not limit.expired or not (late or isinstance(error, TimeoutError)):
                if late:
                    raise TimeoutError from error
                raise
            await _late(seconds)(scope, receive, send)
        else:
            watch.remove(limit)
            limit.leave()
        finally:
            _deadline.reset(token)


def _late(seconds: float) -> Response:
    detail = f"The answer was not ready within {seconds:.3g} s, which is as long as it is waited for."
    return problem(504, "Gateway Timeout", detail)


def _caller_waits(scope: Scope) -> float:
    for name, value in scope["headers"]:
        if name == _TIMEOUT_HEADER:
            return int(value) / 1000 if value.isdigit() and len(value) <= _MAX_DIGITS else float("inf")
    return float("inf")
