"""The contract of a store, held by each kind."""

from __future__ import annotations

import asyncio

import pytest

from observability.cache.store import Entry, Found, Store
from tests.observability.cache.conftest import Kind

pytestmark = pytest.mark.anyio

ENTRY = Entry(b"\x00value\n", 1.5, 0.25)
HOLD_S = 10.0


@pytest.fixture
def store(kind: Kind) -> Store:
    """One replica's store."""
    return kind.replica()


async def _read(store: Store, key: str = "key") -> Found:
    return await store.read(key, hold_s=HOLD_S)


async def _put(store: Store, entry: Entry = ENTRY, key: str = "key", life_s: float = 60) -> Found:
    found = await _read(store, key)
    assert await store.put(key, found.version, entry, life_s=life_s)
    return found


async def test_nothing(store: Store) -> None:
    """Where nothing is kept there is a version all the same, the same one for all who ask, and another for each key."""
    found = await _read(store)
    assert found.entry is None
    assert found.version == (await _read(store)).version != (await _read(store, "other")).version


@pytest.mark.parametrize("key", ["key", "", "a b\n", "schlüssel:{1}", "k" * 5000])
async def test_put(store: Store, key: str) -> None:
    """What is put is found as it was, whatever the key, and under no other key."""
    await _put(store, key=key)
    found = await _read(store, key)
    assert found.entry == ENTRY
    assert 0 <= found.age_s < HOLD_S
    assert (await _read(store, "other")).entry is None


async def test_replaced(store: Store) -> None:
    """A second value under the same version takes the first one's place, and starts its age anew."""
    version = (await _put(store)).version
    assert await store.put("key", version, Entry(b"second", 1, 0), life_s=60)
    assert (await _read(store)).entry == Entry(b"second", 1, 0)


@pytest.mark.parametrize("kept", [True, False])
async def test_overtaken(store: Store, kept: bool) -> None:
    """A value whose load began before a deletion is not kept, whether something was kept then or not."""
    before = await (_put(store) if kept else _read(store))
    await store.delete("key")
    assert not await store.put("key", before.version, ENTRY, life_s=60)
    after = await _read(store)
    assert after.entry is None
    assert after.version != before.version
    assert not await store.put("key", before.version, ENTRY, life_s=60)
    assert await store.put("key", after.version, ENTRY, life_s=60)


async def test_unknown_version(store: Store) -> None:
    """A value under a version that the store did not give is not kept."""
    assert not await store.put("key", "made up", ENTRY, life_s=60)
    assert (await _read(store)).entry is None


async def test_delete(store: Store) -> None:
    """A deletion takes the keys that it names, known or not, and no others."""
    for key in ("a", "b", "c"):
        await _put(store, key=key)
    await store.delete("a", "b", "unknown")
    assert [(await _read(store, key)).entry for key in ("a", "b", "c")] == [None, None, ENTRY]


async def test_every_replica(kind: Kind) -> None:
    """What one replica puts another one finds; what one deletes is gone for both, also what they were loading."""
    here, there = kind.replica(), kind.replica()
    await _put(here)
    loading = await _read(there)
    assert loading.entry == ENTRY
    await here.delete("key")
    assert (await _read(there)).entry is None
    assert not await there.put("key", loading.version, ENTRY, life_s=60)


async def test_age(kind: Kind) -> None:
    """An entry's age is the time since it was put."""
    store = kind.replica()
    await _put(store)
    await kind.pass_time(30)
    assert 30 <= (await _read(store)).age_s < 30 + HOLD_S


async def test_life(kind: Kind) -> None:
    """After its life an entry is gone, and its version with it."""
    store = kind.replica()
    version = (await _put(store, life_s=60)).version
    await kind.pass_time(60)
    assert not await store.put("key", version, ENTRY, life_s=60)
    assert (await _read(store)).entry is None


async def test_hold(kind: Kind) -> None:
    """A version of nothing is good for as long as was asked for, from the last time it was."""
    store = kind.replica()
    version = (await _read(store)).version
    await kind.pass_time(HOLD_S * 0.6)
    assert (await _read(store)).version == version
    await kind.pass_time(HOLD_S * 0.6)
    assert await store.put("key", version, ENTRY, life_s=60)
    other = (await _read(store, "other")).version
    await kind.pass_time(HOLD_S)
    assert not await store.put("other", other, ENTRY, life_s=60)


async def test_side_by_side(store: Store) -> None:
    """Many calls at once each get what is of their own key."""
    await asyncio.gather(*(_put(store, Entry(str(n).encode(), 1, 0), f"key{n}") for n in range(100)))
    found = await asyncio.gather(*(_read(store, f"key{n}") for n in range(100)))
    assert [one.entry and one.entry.value for one in found] == [str(n).encode() for n in range(100)]
