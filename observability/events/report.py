"""Events that were not delivered, as people read them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from observability.events.outbox import Stored

if TYPE_CHECKING:
    from observability.events.nats.dead import DeadLetter


def line(service: str, stored: Stored) -> str:
    """One line that tells of an event: whose it is, its id, type and subject, what became of it so far, and why.

    Args:
        service: In whose outbox it is.
        stored: The event.
    """
    event = stored.event
    state = "dead" if stored.dead else "waits"
    attempts = f" after {_attempts(stored.attempts)}" if stored.attempts else ""
    reason = f": {stored.reason}" if stored.reason else ""
    age = _age(time.time() - stored.added_at / 1e6)
    return _shown(f"{service}  {event.id}  {event.type}  {event.subject}  {state}{attempts}, {age} old{reason}")


def dead_letter_line(letter: DeadLetter) -> str:
    """The same of an event that died in a consumer; the name is the consumer's."""
    what = f"{letter.consumer}  {letter.id}  {letter.type}  {letter.subject}"
    return _shown(f"{what}  dead letter after {_attempts(letter.attempts)}, {_age(letter.age_s)} old: {letter.reason}")


def _attempts(count: int) -> str:
    return f"{count} attempt{'s' if count > 1 else ''}"


def _shown(text: str) -> str:
    """Text that others have written too: nothing that a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
