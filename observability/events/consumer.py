"""A consumer: which events a service takes, and what it does with each, however they are delivered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError

from observability.database import is_busy
from observability.events.delivery import DeliveryError, Refused, Unavailable
from observability.events.event import Event
from observability.events.telemetry import EventTelemetry
from observability.providers import Telemetry

HANDLER_TIMEOUT_S = 8.0
"""How long a handler may take, in seconds: less than those who deliver wait, so that they learn whose fault it was."""

Handler = Callable[[Event], Awaitable[None]]
"""Applies an event: in one transaction, which first asks the inbox whether it is new, and with calls that may be
repeated. It returns when that is done, and raises `Refused` for what can never be, `Unavailable` for what no event can
be now."""

logger = logging.getLogger(__name__)


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
            Refused: It could not be applied, or never can be: nobody takes its type, or its data are wrong.
            Unavailable: No event can be applied now: the database is down or has too much to do.
        """
        with self._telemetry.processing(event, system, self.name):
            handler = self._handlers.get(event.type)
            if handler is None:
                raise Refused(f"{self.name} takes no events of type {event.type}", final=True)
            try:
                async with asyncio.timeout(HANDLER_TIMEOUT_S):
                    await handler(event)
            except DeliveryError as error:
                logger.warning("event not applied", extra={"event_type": event.type, "reason": str(error)})
                raise
            except ValidationError as error:
                wrong = sorted({".".join(map(str, one["loc"])) or "data" for one in error.errors()})
                raise Refused(f"not as expected in the data of this event: {', '.join(wrong)}", final=True) from error
            except TimeoutError as error:
                raise Refused(f"not applied within {HANDLER_TIMEOUT_S:g} s") from error
            except Exception as error:
                if is_busy(error):
                    raise Unavailable("the database has more to do than it can") from error
                logger.exception("applying an event failed")
                raise Refused(f"applying it failed ({type(error).__name__})") from error
