"""What a cache keeps its entries in: the contract of a store, and what goes in and out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as it is kept.

    Args:
        value: The encoded value.
        fresh_s: How old it may be, in seconds, before it is loaded anew.
        load_s: How long its load took, in seconds.
    """

    value: bytes
    fresh_s: float
    load_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a store answers for a key.

    Args:
        version: Names the state of the key; a value that was loaded from here on is put under it.
        entry: The value, if one is kept.
        age_s: How long ago the entry was put, in seconds.
    """

    version: str
    entry: Entry | None
    age_s: float


class Store(Protocol):
    """Keeps entries by key, and refuses those that an invalidation has overtaken.

    Each key has a version, which is made at random by the first read and ends with a deletion. So a value whose load
    began before a deletion comes with a version that is gone, whichever process deleted; and where a version is lost
    otherwise, to an eviction or a restart, the worst is an entry that is not kept.
    """

    async def read(self, key: str, *, hold_s: float) -> Found:
        """What is kept for a key, and the version under which a value for it may be put.

        Args:
            key: The key.
            hold_s: How long, in seconds from now, the version is good for where nothing is kept.
        """
        ...

    async def put(self, key: str, version: str, entry: Entry, *, life_s: float) -> bool:
        """Keep an entry for `life_s` seconds, unless the key has another version by now; say whether it is kept."""
        ...

    async def delete(self, *keys: str) -> None:
        """Forget entries and versions: no later read finds them, and no put under these versions is kept."""
        ...

    async def aclose(self) -> None:
        """Let go of what the store holds open."""
        ...
