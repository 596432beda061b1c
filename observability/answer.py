"""Whether the answer to a request has begun, after which it can be no other."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import Message, Send


class Answer:
    """An answer as it passes by.

    Attributes:
        begun: Whether any of it has been sent.
    """

    __slots__ = ("_send", "begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message on. It is no coroutine of its own, which would cost each message a frame more."""
        self.begun = True
        return self._send(message)
