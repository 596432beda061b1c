"""Requests that a receiver has not taken yet, as files, so that an outage may last longer than memory does.

Each process has a folder of its own, which it holds by a lock, since a file that two would send would come twice. What
a process leaves behind is taken over by the next one that starts: a restart loses nothing either. Files are not forced
to the disk, so that the end of the machine itself may lose them.

As in OpenTelemetry Java's disk buffering there is a folder for each signal, and files are named by their time; what has
no room is refused, and nothing older is thrown away for it, as with the buffer in memory.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

MAX_SPOOL_BYTES: Final = 64 * 1024 * 1024
"""Of each signal in each process, unless `CLEARSPAN_SPOOL_MAX_BYTES` says how many."""

_BLOCK: Final = 4096  # what the smallest file takes of a disk

_LOCK: Final = "lock"
_UNFINISHED: Final = ".unfinished"


class Stored(NamedTuple):
    """A request in a file.

    Attributes:
        path: Its file, whose name begins with the time in nanoseconds and ends with the number of items.
        size: What the file takes of the disk, in bytes.
        items: How many spans or log records it has.
    """

    path: Path
    size: int
    items: int


class Spool:
    """Takes requests and gives them back, the oldest first. For one thread."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_SPOOL_BYTES) -> None:
        """Take over what processes that are gone have left.

        Args:
            folder: Shared by the processes that send the same signal; it is made where it is missing.
            max_bytes: What all files of this process may take of the disk.

        Raises:
            OSError: The folder cannot be written to.
        """
        self._parent = folder
        self._max_bytes = max_bytes
        self._stored: deque[Stored] = deque()
        self._bytes = self._items = self._last_ns = 0
        self._folder, self._lock = self._open()
        self._take_over()

    def add(self, request: bytes, items: int) -> bool:
        """Keep a request that has so many items; False if there is no room.

        Raises:
            OSError: The disk does not take it.
        """
        size = _on_disk(len(request))
        if self._bytes + size > self._max_bytes:
            return False
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        path = self._folder / f"{self._last_ns:020d}-{items}"
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            # Telemetry is nobody else's to read.
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(request)
            unfinished.rename(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self._note(Stored(path, size, items))
        return True

    def oldest(self) -> Stored | None:
        """The request that has waited longest, which stays until it is removed."""
        return self._stored[0] if self._stored else None

    def read(self, stored: Stored) -> bytes:
        """A request's bytes.

        Raises:
            OSError: The file is gone, or cannot be read, or the machine went down before it was really written.
        """
        request = stored.path.read_bytes()
        if not request:
            raise OSError(f"{stored.path.name} is empty")
        return request

    def remove(self) -> None:
        """Forget the oldest request."""
        stored = self._stored.popleft()
        self._bytes -= stored.size
        self._items -= stored.items
        with suppress(OSError):  # whatever has taken it away
            stored.path.unlink()

    @property
    def items(self) -> int:
        """How many spans or log records wait."""
        return self._items

    def close(self) -> None:
        """Leave what waits for the next process; the folder goes if nothing does."""
        if not self._stored:
            _discard(self._folder)
        os.close(self._lock)

    def reopen(self) -> None:
        """In a forked process: begin empty, in a folder of its own, since what waits is the parent's to send.

        Raises:
            OSError: The folder cannot be written to.
        """
        os.close(self._lock)  # closed and not unlocked, which would unlock it for the parent too
        self._stored.clear()
        self._bytes = self._items = 0
        self._folder, self._lock = self._open()

    def _open(self) -> tuple[Path, int]:
        """A new folder, and what holds it."""
        self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            folder = self._parent / uuid.uuid4().hex
            folder.mkdir(mode=0o700)
            if (lock := _lock(folder)) is not None:
                return folder, lock

    def _take_over(self) -> None:
        for folder in self._parent.iterdir():
            if folder != self._folder and (lock := _lock(folder)) is not None:
                try:
                    self._take_from(folder)
                finally:
                    os.close(lock)
        self._stored = deque(sorted(self._stored))

    def _take_from(self, folder: Path) -> None:
        """Take over what there is room for; the rest stays for another one."""
        for stored in sorted(stored for path in folder.iterdir() if (stored := _stored(path)) is not None):
            if self._bytes + stored.size > self._max_bytes:
                return
            self._note(stored._replace(path=stored.path.rename(self._folder / stored.path.name)))
        _discard(folder)

    def _note(self, stored: Stored) -> None:
        self._stored.append(stored)
        self._bytes += stored.size
        self._items += stored.items


def _lock(folder: Path) -> int | None:
    """Hold a process's folder as long as what is returned is open; None if another one does, or if it is none."""
    path = folder / _LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == path.stat().st_ino:  # nobody has taken the folder over meanwhile
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _stored(path: Path) -> Stored | None:
    when, _, items = path.name.partition("-")
    if not (when.isdecimal() and items.isdecimal()):
        return None
    return Stored(path, _on_disk(path.stat().st_size), int(items))


def _discard(folder: Path) -> None:
    """Remove a folder without requests: the lock, and what a process had not finished when it ended."""
    with suppress(OSError):  # who shares the folder may have put something else there
        for path in folder.iterdir():
            if path.name == _LOCK or path.suffix == _UNFINISHED:
                path.unlink()
        folder.rmdir()


def _on_disk(size: int) -> int:
    return max(1, -(-size // _BLOCK)) * _BLOCK
