"""What the steps of the chain know of one call, as it passes through them."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import httpx

CALL = "clearspan.call"
"""The extension of a request that holds its call."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""What is raised when nothing of a request has left this process."""


@dataclass(slots=True)
class Call:
    """One call, with all its attempts; it belongs to one task.

    Attributes:
        started: When it began, in the event loop's time.
        deadline: When it has to be over, in the same time; infinite until the deadline's step has set it.
        attempt: The number of the attempt at work, from 1.
        sent: Whether any attempt may have reached the dependency.
        breaker: State of the breaker that let the attempt through.
        limits: The time limits around the attempt, and what each is called when it is the one that ended it.
        lost: Whether a second attempt beside this one has answered first.
    """

    started: float
    deadline: float = float("inf")
    attempt: int = 1
    sent: bool = False
    breaker: str | None = None
    limits: list[tuple[asyncio.Timeout, str]] = field(default_factory=list)
    lost: bool = False

    def remaining(self) -> float:
        """Seconds that are left."""
        return self.deadline - asyncio.get_running_loop().time()

    def why_cancelled(self) -> str:
        """The limit that ended the attempt, `hedge_lost`, or `cancelled` if the caller gave up."""
        if self.lost:
            return "hedge_lost"
        return next((name for limit, name in self.limits if limit.expired()), "cancelled")


def call_of(extensions: MutableMapping[str, Any]) -> Call:
    """The call that a request of these extensions is part of; begun now, if no step has asked before."""
    call: Call | None = extensions.get(CALL)
    if call is None:
        call = extensions[CALL] = Call(asyncio.get_running_loop().time())
    return call


def was_sent(error: httpx.RequestError) -> bool:
    """Whether the dependency may have done what it was asked for, although the call failed.

    False only if no attempt can have reached it: each was refused by the chain or found no connection.
    """
    call: Call | None = error.request.extensions.get(CALL)
    return call.sent if call is not None else not isinstance(error, NEVER_SENT)
