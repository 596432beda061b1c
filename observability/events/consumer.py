"""A consumer: which events a service takes, and what it does with each, however they are delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError

from observability.events.delivery import Refused
from observability.events.event import Event
from observability.events.telemetry import EventTelemetry
from observability.providers import Telemetry

HANDLER_TIMEOUT_S = 8.0
"""How long a handler may take, in seconds: less than those who deliver wait, so that they learn whose fault it was."""

Handler = Callable[[Event], Awaitable[None]]
"""Applies an event: in one transaction, which first asks the inbox whether it is new, and with calls that may be
repeated. It returns when that is done, and raises `Refused` for what can never be."""


class Consumer:
    """The events that a service takes.

    Args:
        name: The service's, the same for all its replicas, which share the events among them.
        handlers: What is done with an event, by its type.
        telemetry: Has a span for each delivery.
    """

    def __init__(self, name: str, handlers: Mapping[str, Handler], telemetry: Telemetry) -> None:
        self.name = name
        self._handlers = dict(handlers)
        self._telemetry = EventTelemetry(telemetry)

    @property
    def types(self) -> list[str]:
        """The types of the events that are taken."""
        return sorted(self._handlers)

    async def process(self, event: Event, system: str) -> None:
        """Apply an event. Of several deliveries of it at once, or one after the other, one has an effect.

        Args:
            event: The event.
            system: What has delivered it, as the value of `messaging.system`.

        Raises:
            Refused: It is of no use to deliver it again: nobody takes its type, or its data are wrong.
            Exception: It could not be applied this time; the handler's own, or TimeoutError.
        """
        with self._telemetry.processing(event, system, self.name):
            handler = self._handlers.get(event.type)
            if handler is None:
                raise Refused(f"{self.name} takes no events of type {event.type}.", final=True)
            try:
                async with asyncio.timeout(HANDLER_TIMEOUT_S):
                    await handler(event)
            except ValidationError as error:
                wrong = sorted({".".join(map(str, one["loc"])) or "data" for one in error.errors()})
                raise Refused(f"The data of this event are not as expected: {', '.join(wrong)}.", final=True) from error
