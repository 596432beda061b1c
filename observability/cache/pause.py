"""When a store that fails is left alone, and when it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""How many failures in a row begin a pause; fewer may be one lost connection."""

PAUSE_S: Final = 5.0
"""How long nothing is asked, in seconds; then one call finds out for all."""


class Pause:
    """Leaves a store alone after failures in a row, and lets one call at a time find out whether it is back.

    Each call that `may_ask` allows reports back with one of the other three.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._probing = False

    def may_ask(self) -> bool:
        """Whether to ask the store now."""
        if self._failures < FAILURES:
            return True
        if self._probing or self._clock() < self._until:
            return False
        self._probing = True
        return True

    def failed(self) -> None:
        """The store did not answer, or not with sense."""
        self._failures += 1
        self._until = self._clock() + PAUSE_S
        self._probing = False

    def answered(self) -> None:
        """The store answered."""
        self._failures = 0
        self._probing = False

    def undecided(self) -> None:
        """The call ended before anything was known of the store: the next one may ask."""
        self._probing = False
