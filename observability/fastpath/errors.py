"""What becomes of an exception that nobody handled: it is recorded, answered with 500, and raised again."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode, get_current_span
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AnsweredErrors:
    """What nobody handled is recorded on the current span and answered, as by the two layers that contrib puts here."""

    def __init__(self, answers: Any) -> None:
        """Take the place of two layers.

        Args:
            answers: Starlette's `ServerErrorMiddleware`, around contrib's layer that records exceptions.
        """
        self.app: ASGIApp = answers.app.app
        self._answers: ASGIApp = answers
        self._handler = answers.handler
        self._debug = answers.debug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._answers(scope, receive, send)
            return
        answered = False

        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
            return send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:  # noqa: BLE001 - it is raised again, behind the answer
            record_error(get_current_span(), error)
            again = ServerErrorMiddleware(failing(error, answered=answered), self._handler, self._debug)
            await again(scope, receive, _discard if answered else send)


def record_error(span: Span, error: Exception) -> None:
    """Record an exception as contrib and the API's `use_span` do; of one that has no text only its kind."""
    if not span.is_recording():
        return
    kind = type(error).__name__
    try:
        description = f"{kind}: {error}"
    except Exception:  # noqa: BLE001 - whatever an application's exceptions do
        span.set_status(Status(StatusCode.ERROR, kind))  # to be recorded it would need its text too
        return
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, description))


def failing(error: Exception, *, answered: bool = False) -> ASGIApp:
    """An application that fails, before or after its answer has begun."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if answered:
            await send({"type": "http.response.start"})
        raise error

    return app


async def _discard(_message: Message) -> None:
    pass
