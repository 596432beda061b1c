"""Bounds of what waits."""

from __future__ import annotations

import threading

from observability.fastpath.buffer import ENTRY_BYTES, Buffer, Room
from observability.fastpath.origin import Origin

ORIGIN = Origin(b"", b"", b"", b"")


def test_bound_in_bytes() -> None:
    """What has no room is refused, until what was taken before it is released, and not only taken."""
    buffer = Buffer(max_bytes=2 * (ENTRY_BYTES + 10), max_entries=100, due=100)
    entry = ORIGIN, bytes(10)
    assert [buffer.add(entry) is Room.NONE for _ in range(3)] == [False, False, True]
    taken = buffer.take()
    assert (buffer.add(entry), len(buffer), buffer.take()) == (Room.NONE, 2, [])
    buffer.release(taken[:1])
    assert (buffer.add((ORIGIN, bytes(11))), buffer.add(entry) is Room.NONE) == (Room.NONE, False)


def test_bound_in_entries() -> None:
    """There are no more entries than allowed, however small they are."""
    buffer = Buffer(max_bytes=1 << 20, max_entries=2, due=100)
    assert [buffer.add((ORIGIN, b"")) for _ in range(3)] == [Room.SOME, Room.SOME, Room.NONE]


def test_due_once() -> None:
    """That there is enough to be sent is told once for each time that it is taken, by number or by bytes."""
    buffer = Buffer(max_bytes=1 << 20, max_entries=100, due=2)
    assert [buffer.add((ORIGIN, b"")) for _ in range(3)] == [Room.SOME, Room.DUE, Room.SOME]
    buffer.take()
    assert [buffer.add((ORIGIN, bytes(1 << 18))), buffer.add((ORIGIN, b""))] == [Room.DUE, Room.SOME]


def test_order() -> None:
    """The oldest is the first."""
    buffer = Buffer(max_bytes=1 << 20, max_entries=100, due=2)
    for number in range(3):
        buffer.add((ORIGIN, bytes((number,))))
    assert [body for _, body in buffer.take()] == [b"\0", b"\1", b"\2"]


def test_many_threads() -> None:
    """Nothing is lost or counted twice when many add at once and one takes."""
    buffer = Buffer(max_bytes=1 << 24, max_entries=1 << 20, due=10)
    threads = [threading.Thread(target=lambda: [buffer.add((ORIGIN, b"x")) for _ in range(2000)]) for _ in range(4)]
    taken = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or len(buffer):
        some = buffer.take()
        taken += len(some)
        buffer.release(some)
    assert (taken, len(buffer), buffer._bytes) == (8000, 0, 0)
