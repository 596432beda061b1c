"""What is still to be encoded, which is done for some at a time.

What else a request runs drives everything that encodes a span out of the processor's caches, so that one by itself
takes three to five times as long as one of many.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from observability.fastpath.buffer import Entry

_Item = TypeVar("_Item")


class Group:
    """Takes items from any thread, and has one thread at a time encode them, in their order.

    No thread waits for another one that encodes, which may log, unless it says for how long.
    """

    def __init__(
        self, put: Callable[[Entry], None], drop: Callable[[BaseException], None], *, size: int, max_waiting: int
    ) -> None:
        """Begin empty.

        Args:
            put: Takes what is encoded.
            drop: Is told why something could not be; raises nothing.
            size: How many are enough to be encoded.
            max_waiting: How many may wait, if the thread that encodes is held up.
        """
        self._put = put
        self._drop = drop
        self._size = size
        self._max_waiting = max_waiting
        self.clear()

    def clear(self) -> None:
        """Be empty, with a new lock: also for a forked process, where another thread may have held the old one."""
        self._waiting: deque[tuple[Callable[[Any], Entry], Any]] = deque()
        self._encoding = threading.Lock()

    def add(self, encode: Callable[[_Item], Entry], item: _Item) -> bool:
        """Add an item, and encode all if that makes enough; False if there is no room."""
        waiting = self._waiting
        if len(waiting) >= self._max_waiting:
            return False
        waiting.append((encode, item))
        if len(waiting) >= self._size:
            self.encode()
        return True

    def encode(self, wait_s: float = 0.0) -> bool:
        """Encode what waits; False if another thread is at it, and goes on for longer than that, in seconds."""
        waiting, encoding = self._waiting, self._encoding
        if not waiting and not encoding.locked():
            return True
        if not encoding.acquire(timeout=wait_s):
            return False
        try:
            for _ in range(len(waiting)):
                encode, item = waiting.popleft()
                try:
                    entry = encode(item)
                except BaseException as error:
                    self._drop(error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    self._put(entry)
        finally:
            encoding.release()
        return True

    def __len__(self) -> int:
        return len(self._waiting)
