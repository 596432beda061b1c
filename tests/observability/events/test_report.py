"""Undelivered events as lines of text."""

from __future__ import annotations

import time

import pytest

from observability.events.event import Event
from observability.events.outbox import Stored
from observability.events.report import line


def _line(*, age_s: float = 0, attempts: int = 0, reason: str | None = None, dead: bool = False) -> str:
    event = Event("order.placed", "/orders", "order-1", b"{}", id="event-1")
    return line("orders", Stored(event, int((time.time() - age_s) * 1e6), attempts, reason, dead))


def test_waiting() -> None:
    """An event that was not tried yet has nothing but its age."""
    assert _line() == "orders  event-1  order.placed  order-1  waits, 0 s old"


def test_dead() -> None:
    """A dead event tells how often it was tried, and why it was given up."""
    told = _line(attempts=15, reason="shipping answered 500", dead=True)
    assert told == "orders  event-1  order.placed  order-1  dead after 15 attempts, 0 s old: shipping answered 500"


@pytest.mark.parametrize(("seconds", "shown"), [(90, "90 s"), (600, "10 min"), (7200, "2 h"), (2e5, "2 d")])
def test_age(seconds: float, shown: str) -> None:
    """An age is told in the unit that fits."""
    assert f"{shown} old" in _line(age_s=seconds)


def test_strangers_text() -> None:
    """What others have written is no order to the terminal, and stays on its line."""
    assert _line(reason="a\x1b]0;canary\x07\nb").endswith(": a�]0;canary��b")
