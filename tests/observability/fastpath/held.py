"""An encoder that is held up while a test does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from observability.fastpath.buffer import Entry

TIMEOUT_S: Final = 10


class Held:
    """Encodes a name once that may go on."""

    def __init__(self, encode: Callable[[str], Entry]) -> None:
        self._encode = encode
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, name: str) -> Entry:
        """Tell that it has begun, and wait."""
        self.begun.set()
        assert self.go_on.wait(TIMEOUT_S)
        return self._encode(name)
