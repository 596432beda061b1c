"""Events that were not delivered, as people read them."""

from __future__ import annotations

import time

from observability.events.outbox import Stored


def line(service: str, stored: Stored) -> str:
    """One line that tells of an event: whose it is, its id, type and subject, what became of it so far, and why.

    Args:
        service: In whose outbox it is.
        stored: The event.
    """
    event = stored.event
    state = "dead" if stored.dead else "waits"
    attempts = f" after {stored.attempts} attempt{'s' if stored.attempts > 1 else ''}" if stored.attempts else ""
    reason = f": {stored.reason}" if stored.reason else ""
    age = _age(time.time() - stored.added_at / 1e6)
    return _shown(f"{service}  {event.id}  {event.type}  {event.subject}  {state}{attempts}, {age} old{reason}")


def _shown(text: str) -> str:
    """Text that others have written too: nothing that a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
