"""Clients that keep their connections are asked to leave while the process is about to stop.

Readiness that fails keeps new connections away, and what routes single requests. A router of connections, such as a
Kubernetes Service, leaves those that are open where they are, and their requests go on coming here. The one that came
just as the server closes would get no answer, and nobody could know what it has done.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.health import Health


class LeaveWhileDraining:
    """ASGI middleware: the answer to what comes after the signal to stop is its connection's last one, and says so."""

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self.app = app
        self._health = health

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not self._health.draining:
            return self.app(scope, receive, send)

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return self.app(scope, receive, send_last)
