"""Which store a URL names."""

from __future__ import annotations

from observability.cache.memory import MemoryStore
from observability.cache.store import Store
from observability.providers import Telemetry

MAX_ENTRIES = 10_000
"""How many entries are kept in the process's memory."""


def open_store(url: str | None, telemetry: Telemetry) -> Store:
    """The store that a URL names, not connected yet; close it with `aclose` after the caches that use it.

    Args:
        url: `redis://`, `rediss://`, `valkey://` or `valkeys://`, shared by all processes that name the same database;
            None for this process's own memory.
        telemetry: The providers of the service.

    Raises:
        ValueError: The URL is of another kind, or has a parameter that is not known.
    """
    memory = MemoryStore(MAX_ENTRIES, telemetry)
    if url is None:
        return memory
    # redis-py takes a tenth of a second to import: only who uses it pays.
    from observability.cache.guarded import GuardedStore
    from observability.cache.redis import RedisStore

    return GuardedStore(RedisStore(url, telemetry), memory, telemetry)
