"""What carries events from the outbox to those who consume them, as the relay sees it."""

from __future__ import annotations

from typing import Protocol

from observability.events.event import Event


class DeliveryError(Exception):
    """An event was not delivered; the text says why.

    DeliveryError
    ├── Unavailable   nobody takes events of this type now: the event is not to blame, and all of its type wait
    └── Refused       this event was not accepted; others of its type may be

    The text may quote a stranger's answer, and goes to logs, spans and the database, none of which takes every
    character: those that cannot be printed are replaced.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in reason))


class Unavailable(DeliveryError):  # noqa: N818 - named for what happened
    """Nobody takes events of this type now."""


class Refused(DeliveryError):  # noqa: N818 - named for what happened
    """This event was not accepted.

    Attributes:
        final: Whether sending it again is known to be of no use.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Delivery(Protocol):
    """Takes events to all who consume them. Its own bounds on time are shorter than the relay's lease."""

    @property
    def system(self) -> str:
        """What carries the events, as the value of `messaging.system`."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many events may be under way at once."""
        ...

    async def send(self, event: Event) -> None:
        """Return when the event is in safe hands: its consumers have applied it, or a broker has stored it.

        Sending it again does no harm. Cancelled or failed, it may have been delivered all the same.

        Raises:
            DeliveryError: It is not.
        """
        ...
