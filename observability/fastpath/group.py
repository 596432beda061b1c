"""What is still to be encoded, which is done for some at a time.

What else a request runs drives everything that encodes a span out of the processor's caches, so that one by itself
takes two to three times as long as one of many.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, TypeVar

from observability.fastpath.buffer import Entry

_LOOK_S: Final = 0.001

_Item = TypeVar("_Item")


class Group:
    """Takes items from any thread. No thread waits for another one that encodes, unless it says so."""

    def __init__(self, put: Callable[[Entry], None], drop: Callable[[BaseException], None], *, size: int) -> None:
        """Begin empty.

        Args:
            put: Takes what is encoded.
            drop: Is told why something could not be; raises nothing.
            size: How many are enough to be encoded.
        """
        self._put = put
        self._drop = drop
        self._size = size
        self._waiting: deque[tuple[Callable[[Any], Entry], Any]] = deque()
        self._encoding: set[int] = set()

    def clear(self) -> int:
        """Give up what waits, and return how many they were. In a forked process there is no other thread."""
        self._encoding.clear()
        waiting, number = self._waiting, 0
        while waiting:
            try:
                waiting.popleft()
            except IndexError:  # another thread has it
                break
            number += 1
        return number

    def add(self, encode: Callable[[_Item], Entry], item: _Item) -> None:
        """Add an item, and encode all if that makes enough."""
        waiting = self._waiting
        waiting.append((encode, item))
        if len(waiting) >= self._size:
            self.encode()

    def encode(self) -> None:
        """Encode what waits, in its order, as far as no other thread has begun to."""
        waiting = self._waiting
        if not waiting:
            return
        # A mark that an interrupt leaves here is taken away the next time that this thread encodes.
        thread = get_ident()
        self._encoding.add(thread)
        try:
            for _ in range(len(waiting)):
                try:
                    encode, item = waiting.popleft()
                except IndexError:
                    return
                try:
                    entry = encode(item)
                except BaseException as error:
                    self._drop(error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    self._put(entry)
        finally:
            self._encoding.discard(thread)

    def wait(self, timeout_s: float) -> bool:
        """Wait for what other threads are encoding; False if that takes longer, in seconds."""
        until = time.monotonic() + timeout_s
        others = self._encoding.copy()
        while others := others & self._encoding:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_S)
        return True

    def __len__(self) -> int:
        return len(self._waiting)
