"""What is special about entries in memory."""

from __future__ import annotations

import pytest

from observability import Telemetry
from observability.cache.memory import MemoryStore
from observability.cache.store import Entry
from observability.telemetry import CACHE_EVICTIONS
from observability.testing import Recorder
from tests.observability.cache.fakes import Clock

pytestmark = pytest.mark.anyio

ENTRY = Entry(b"value", 1, 0)


async def _fill(store: MemoryStore, *keys: str) -> None:
    for key in keys:
        version = (await store.read(key, hold_s=10)).version
        await store.put(key, version, ENTRY, life_s=60)


async def _kept(store: MemoryStore, *keys: str) -> list[str]:
    return [key for key in keys if (await store.read(key, hold_s=10)).entry is not None]


async def test_bound(recorder: Recorder, telemetry: Telemetry, clock: Clock) -> None:
    """The key used least recently makes room, and what is dropped before its time is counted."""
    store = MemoryStore(3, telemetry, clock=clock)
    await _fill(store, "a", "b", "c")
    await store.read("a", hold_s=10)
    await _fill(store, "d")
    assert await _kept(store, "a", "c", "d") == ["a", "c", "d"]
    (evicted,) = recorder.metrics("service")[CACHE_EVICTIONS.name]
    assert evicted.value == 1
    assert await _kept(store, "b") == []


async def test_no_eviction(recorder: Recorder, telemetry: Telemetry, clock: Clock) -> None:
    """What has ended, and a version that never came to an entry, are no evictions."""
    store = MemoryStore(2, telemetry, clock=clock)
    await _fill(store, "a")
    clock.now += 60
    for key in "bcde":
        await store.read(key, hold_s=10)
    assert CACHE_EVICTIONS.name not in recorder.metrics("service")


async def test_bounded_versions(telemetry: Telemetry) -> None:
    """Asking for ever new keys takes no more memory than is allowed."""
    store = MemoryStore(10, telemetry)
    for n in range(1000):
        await store.read(str(n), hold_s=10)
    assert len(store._slots) == 10
