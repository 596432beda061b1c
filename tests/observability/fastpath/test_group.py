"""Items that wait to be encoded together."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

from observability.fastpath.buffer import Entry
from observability.fastpath.group import Group
from observability.fastpath.origin import Origin
from tests.observability.fastpath.held import TIMEOUT_S, Held

ORIGIN = Origin(b"", b"", b"", b"")


class Kept:
    """Keeps what comes of a group."""

    def __init__(self, *, size: int = 3) -> None:
        self.names: list[str] = []
        self.dropped: list[BaseException] = []
        self.group = Group(self._put, self.dropped.append, size=size)

    def _put(self, entry: Entry) -> None:
        self.names.append(entry[1].decode())

    def add(self, *names: str) -> None:
        """Add items."""
        for name in names:
            self.group.add(_encode, name)


def _encode(name: str) -> Entry:
    return ORIGIN, name.encode()


class Thread(threading.Thread):
    """Runs something, and is waited for."""

    def __init__(self, target: Callable[[], object]) -> None:
        super().__init__(target=target)
        self.start()

    def end(self) -> None:
        """Wait for it."""
        self.join(TIMEOUT_S)
        assert not self.is_alive()


def test_encoded_when_there_are_enough() -> None:
    """Items wait until there are enough of them, and are encoded in their order."""
    kept = Kept()
    kept.add("a", "b")
    assert (kept.names, len(kept.group)) == ([], 2)
    kept.add("c", "d")
    assert (kept.names, len(kept.group)) == (["a", "b", "c"], 1)


def test_encoded_when_asked_for() -> None:
    """Whoever asks for it has all encoded that waits; nothing is to be done a second time."""
    kept = Kept()
    kept.add("a")
    kept.group.encode()
    kept.group.encode()
    assert kept.names == ["a"]


def test_what_cannot_be_encoded() -> None:
    """What cannot be encoded is told, and the others are encoded."""
    kept, error = Kept(), ValueError("b")

    def fail(_: str) -> Entry:
        raise error

    kept.add("a")
    kept.group.add(fail, "b")
    kept.add("c")
    assert (kept.names, kept.dropped) == (["a", "c"], [error])


def test_interrupted() -> None:
    """An interrupt goes on to whoever encodes; what it hit is told, and the others wait for the next time."""
    kept = Kept()

    def interrupt(_: str) -> Entry:
        raise KeyboardInterrupt

    kept.group.add(interrupt, "a")
    kept.add("b")
    with pytest.raises(KeyboardInterrupt):
        kept.add("c")
    assert len(kept.dropped) == 1
    kept.group.encode()
    assert kept.names == ["b", "c"]


def test_while_another_thread_encodes() -> None:
    """While a thread is held up others encode what it has not begun; who wants to waits for it."""
    kept, held = Kept(), Held(_encode)
    kept.group.add(held, "a")
    kept.add("b")
    thread = Thread(lambda: kept.add("c"))
    assert held.begun.wait(TIMEOUT_S)
    kept.group.encode()
    assert kept.names == ["b", "c"]
    assert not kept.group.wait(0.01)
    waiting = Thread(lambda: kept.group.wait(TIMEOUT_S))
    held.go_on.set()
    thread.end()
    waiting.end()
    assert kept.group.wait(0)
    assert kept.names == ["b", "c", "a"]


def test_given_up() -> None:
    """What is given up is counted, and not encoded."""
    kept = Kept()
    kept.add("a", "b")
    assert kept.group.clear() == 2
    assert kept.group.clear() == 0
    kept.group.encode()
    assert kept.names == []


class Garbage:
    """Adds an item when it is collected."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._itself = self

    def __del__(self) -> None:
        self._kept.add("garbage")


def test_added_while_one_is_encoded() -> None:
    """The garbage collector may end a span while another one is encoded, in the same thread."""
    kept = Kept(size=2)

    def collect(name: str) -> Entry:
        Garbage(kept)
        gc.collect()
        return _encode(name)

    kept.group.add(collect, "a")
    kept.add("b")
    kept.group.encode()
    assert sorted(kept.names) == ["a", "b", "garbage"]


def test_forked() -> None:
    """A forked process waits for no thread of its parent."""
    kept, held = Kept(size=1), Held(_encode)
    thread = Thread(lambda: kept.group.add(held, "a"))
    assert held.begun.wait(TIMEOUT_S)
    kept.group.clear()
    assert kept.group.wait(0)
    held.go_on.set()
    thread.end()
