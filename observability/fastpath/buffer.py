"""What is encoded and not yet sent, bounded in bytes."""

from __future__ import annotations

import threading
from enum import Enum
from typing import Final

from observability.fastpath.origin import Origin

ENTRY_BYTES: Final = 128
"""What an entry takes beside its message, in bytes: the objects that hold it."""

Entry = tuple[Origin, bytes]


class Room(Enum):
    """What became of an entry."""

    NONE = "refused"
    SOME = "taken"
    DUE = "taken, and now there is enough to be sent, for the first time since the last `take`"


# To ask an enumeration for a member takes CPython 3.11 a quarter of the time that adding an entry takes.
NO_ROOM: Final = Room.NONE
SOME_ROOM: Final = Room.SOME
ROOM_AND_DUE: Final = Room.DUE


class Buffer:
    """Takes entries from any thread and gives them to one, in their order. What has no room is refused.

    An entry keeps its place until it is released, so that what is being sent counts too.
    """

    def __init__(self, *, max_bytes: int, max_entries: int, due: int) -> None:
        """Begin empty.

        Args:
            max_bytes: Of all messages, and `ENTRY_BYTES` for each.
            max_entries: How many there may be.
            due: How many are enough to be sent; so is a quarter of the bytes.
        """
        self._due_entries = due
        self._due_bytes = max_bytes // 4
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self.clear()

    def clear(self) -> None:
        """Be empty, with a new lock: also for a forked process, where another thread may have held the old one."""
        # Held for a few steps only, since requests wait for it. It may be taken twice by one thread: the garbage
        # collector can end a span while one is being added.
        self._lock = threading.RLock()
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._due = False
        self._entries = 0
        self._bytes = 0

    def add(self, entry: Entry) -> Room:
        """Add an entry, if there is room for it."""
        size = len(entry[1]) + ENTRY_BYTES
        with self._lock:
            if self._bytes + size > self._max_bytes or self._entries >= self._max_entries:
                return NO_ROOM
            waiting = self._waiting
            waiting.append(entry)
            self._entries += 1
            self._bytes += size
            self._waiting_bytes += size
            if self._due or (len(waiting) < self._due_entries and self._waiting_bytes < self._due_bytes):
                return SOME_ROOM
            self._due = True
            return ROOM_AND_DUE

    def take(self) -> list[Entry]:
        """All that wait, the oldest first."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            self._waiting_bytes, self._due = 0, False
            return taken

    def release(self, entries: list[Entry]) -> None:
        """Give up the places of what was taken."""
        size = sum(len(body) for _, body in entries) + ENTRY_BYTES * len(entries)
        with self._lock:
            self._entries -= len(entries)
            self._bytes -= size

    def __len__(self) -> int:
        return self._entries
