"""What a fault is, and those of one service that are in force."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PATH = "/faults"
"""Where a service that takes faults is asked for them."""

Kind = Literal["latency", "error", "hang", "reset", "truncated", "slow_body", "not_json"]
"""What becomes of a request.

`latency`: it is served later. `error`: it is answered with a status in its place. `hang`: it gets no answer. `reset`:
its connection is torn down. The others are served, and then the answer's body ends in the middle (`truncated`), comes
in pieces (`slow_body`), or is something else (`not_json`).
"""


class Fault(BaseModel):
    """One fault; it ends by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that meet it."""

    seconds: float = Field(default=30.0, gt=0, le=600)
    """How long it is in force."""

    route: str = Field(default="/", pattern=r"^/", max_length=200)
    """The first segments of the paths that meet it; one in braces stands for any: `/payments/{order_id}`."""

    status: int = Field(default=503, ge=400, le=599)
    """What `error` answers."""

    delay_s: float = Field(default=0.5, gt=0, le=60)
    """How long `latency` waits before the request is served, and `slow_body` takes for the body, in seconds."""

    def concerns(self, path: str) -> bool:
        """Whether requests for a path may meet it."""
        wanted = [segment for segment in self.route.split("/") if segment]
        segments = [segment for segment in path.split("/") if segment]
        return len(segments) >= len(wanted) and all(
            segment == one or (one[0] == "{" and one[-1] == "}") for one, segment in zip(wanted, segments, strict=False)
        )


class Faults:
    """The faults of one service that are in force, one of each kind at most.

    Args:
        now: A clock, in seconds.
        chance: A number between 0 and 1.
    """

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._now = now
        self._chance = chance
        self._ends: dict[Fault, float] = {}

    def set(self, fault: Fault) -> None:
        """Let a fault be in force from now on, in the place of one of its kind."""
        self._ends = {one: end for one, end in self._ends.items() if one.kind != fault.kind}
        self._ends[fault] = self._now() + fault.seconds

    def clear(self) -> None:
        """End all faults."""
        self._ends.clear()

    def in_force(self) -> dict[Fault, float]:
        """The faults, and for how many seconds more."""
        now = self._now()
        return {fault: end - now for fault, end in self._ends.items() if end > now}

    def draw(self, path: str) -> Fault | None:
        """The fault that a request for a path meets: the first one that concerns it and has its share, or None."""
        if not self._ends:
            return None
        return next((one for one in self.in_force() if one.concerns(path) and self._chance() < one.share), None)
