"""What the chain decides, as records; `observability.resilience.telemetry` tells them as spans, events and metrics.

The steps know these and no telemetry, so that a test reads their decisions from a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from observability.resilience.errors import Refused


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt has ended.

    Attributes:
        error_type: None, or an answer's status from 400, or the name of the error or of the limit that ended it,
            `hedge_lost`, or `cancelled` if the caller gave up.
    """

    error_type: str | None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A failed attempt is followed by another one.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        reason: The status it was answered with, or the name of the error.
        delay_s: How long the call waits now, in seconds.
    """

    attempt: int
    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class NotRetrying:
    """A failed attempt that would be repeated is not.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        reason: The status it was answered with, or the name of the error.
        because: `attempts`, `budget`, `deadline`, `body` (which cannot be sent again) or `method` (which is not safe).
    """

    attempt: int
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Hedging:
    """An attempt that takes unusually long, more than `delay_s` seconds, gets another one beside it."""

    attempt: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Hedged:
    """One of two attempts has answered; `won` tells whether it was the second one."""

    won: bool


@dataclass(frozen=True, slots=True)
class Waited:
    """A call waited for a place among those that may be under way; `seconds` tells how long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refusing:
    """An attempt does not leave this process."""

    request: httpx.Request
    error: Refused


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """A breaker went from one state to another: `closed`, `open` or `half_open`."""

    before: str
    after: str
    reason: str


Decision = Attempted | Retrying | NotRetrying | Hedging | Hedged | Waited | Refusing | BreakerChanged
Tell = Callable[[Decision], None]
