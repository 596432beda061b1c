"""A shared store that fails, hangs, comes back: slower, never an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability import Telemetry
from observability.cache import Cache
from observability.cache.guarded import LOCAL_FRESH_S, MAX_OWED, GuardedStore
from observability.cache.memory import MemoryStore
from observability.cache.pause import FAILURES, PAUSE_S
from observability.cache.redis import BusyError, RedisStore
from observability.cache.store import Entry
from observability.telemetry import CACHE_STORE_ERRORS
from observability.testing import Recorder
from tests.observability.cache.fakes import Clock, FailingStore
from tests.observability.cache.proxy import Mode, proxy_before
from tests.observability.cache.redis_server import RedisServer

pytestmark = pytest.mark.anyio

ENTRY = Entry(b"shared", 100, 0)
LOCAL = Entry(b"local", 100, 0)


@pytest.fixture
def shared(telemetry: Telemetry, clock: Clock) -> FailingStore:
    """What replicas share, made to fail at will."""
    return FailingStore(MemoryStore(100, telemetry, clock=clock))


@pytest.fixture
def guarded(shared: FailingStore, telemetry: Telemetry, clock: Clock) -> GuardedStore:
    """One replica's view of it."""
    return GuardedStore(shared, MemoryStore(100, telemetry, clock=clock), telemetry, clock=clock)


async def _put(store: GuardedStore, entry: Entry, key: str = "key") -> bool:
    return await store.put(key, (await store.read(key, hold_s=10)).version, entry, life_s=1000)


async def _value(store: GuardedStore, key: str = "key") -> bytes | None:
    entry = (await store.read(key, hold_s=10)).entry
    return entry.value if entry is not None else None


def _counted(recorder: Recorder) -> dict[Any, Any]:
    points = recorder.metrics("service").get(CACHE_STORE_ERRORS.name, [])
    return {point.attributes["error.type"]: point.value for point in points}


async def test_left_alone(recorder: Recorder, shared: FailingStore, guarded: GuardedStore, clock: Clock) -> None:
    """After some failures in a row the store is not asked for a while, memory serves, and each failure is counted."""
    await _put(guarded, ENTRY)
    shared.calls.clear()
    shared.error = ConnectionError("down")
    for _ in range(FAILURES):
        assert await _value(guarded) is None
    assert await _put(guarded, LOCAL)
    for _ in range(10):
        assert await _value(guarded) == b"local"
    assert len(shared.calls) == FAILURES
    assert _counted(recorder) == {"ConnectionError": FAILURES}
    clock.now += PAUSE_S
    assert await _value(guarded) == b"local"
    assert len(shared.calls) == FAILURES + 1
    shared.error = None
    clock.now += PAUSE_S
    assert await _value(guarded) == b"shared"


async def test_local_is_short(shared: FailingStore, guarded: GuardedStore) -> None:
    """A local entry is not fresh for long, since others cannot invalidate it."""
    shared.error = ConnectionError("down")
    await _put(guarded, LOCAL)
    entry = (await guarded.read("key", hold_s=10)).entry
    assert entry is not None
    assert entry.fresh_s == LOCAL_FRESH_S


async def test_local_is_forgotten(shared: FailingStore, guarded: GuardedStore) -> None:
    """What memory kept during one failure does not come back with the next, when others may have invalidated it."""
    shared.error = ConnectionError("down")
    await _put(guarded, LOCAL)
    shared.error = None
    assert await _value(guarded) is None
    shared.error = ConnectionError("down")
    assert await _value(guarded) is None


@pytest.mark.parametrize("left_alone", [False, True])
async def test_owed_deletion(
    shared: FailingStore, guarded: GuardedStore, clock: Clock, telemetry: Telemetry, left_alone: bool
) -> None:
    """A deletion that the store did not hear is told before anything else is asked, and so reaches other replicas."""
    for key in ("key", "other"):
        await _put(guarded, ENTRY, key)
    shared.error = ConnectionError("down")
    for _ in range(FAILURES if left_alone else 0):
        await guarded.read("unrelated", hold_s=10)
    await guarded.delete("key")
    await guarded.delete("other")
    shared.error = None
    clock.now += PAUSE_S
    assert await _value(guarded) is None
    elsewhere = GuardedStore(shared, MemoryStore(10, telemetry), telemetry, clock=clock)
    assert [await _value(elsewhere, key) for key in ("key", "other")] == [None, None]
    shared.calls.clear()
    await _put(guarded, ENTRY)
    assert await _value(guarded) == b"shared"
    assert "delete" not in shared.calls


async def test_cancelled_deletion(shared: FailingStore, guarded: GuardedStore) -> None:
    """A deletion whose caller is cancelled is not forgotten."""
    await _put(guarded, ENTRY)
    shared.gate.clear()
    deleting = asyncio.create_task(guarded.delete("key"))
    await asyncio.sleep(0)
    deleting.cancel()
    await asyncio.wait([deleting])
    shared.gate.set()
    assert await _value(guarded) is None


async def test_owed_bound(recorder: Recorder, shared: FailingStore, guarded: GuardedStore) -> None:
    """The deletions that are owed are bounded, and those that are lost are counted."""
    shared.error = ConnectionError("down")
    for n in range(MAX_OWED + 5):
        await guarded.delete(str(n))
    assert len(guarded._owed) == MAX_OWED
    assert _counted(recorder)["deletion_lost"] == 5


async def _deleting(guarded: GuardedStore, key: str) -> asyncio.Task[None]:
    """A deletion that the store has begun."""
    deleting = asyncio.create_task(guarded.delete(key))
    await asyncio.sleep(0)
    return deleting


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=10)


@pytest.mark.usefixtures("patient")
async def test_deleted_again_meanwhile(shared: FailingStore, guarded: GuardedStore) -> None:
    """A deletion is owed though an earlier one of the same key ends well after it failed."""
    shared.gate.clear()
    first = await _deleting(guarded, "key")
    await _cancel(await _deleting(guarded, "key"))
    shared.gate.set()
    await first
    assert list(guarded._owed) == ["key"]


@pytest.mark.usefixtures("patient")
async def test_owed_while_another_is_paid(shared: FailingStore, guarded: GuardedStore) -> None:
    """A key whose deletion is owed is deleted before it is read, also while another call pays."""
    await _put(guarded, ENTRY)
    shared.gate.clear()
    first = await _deleting(guarded, "other")
    await _cancel(await _deleting(guarded, "key"))
    reading = asyncio.create_task(_value(guarded))
    shared.gate.set()
    assert await reading is None
    await first


async def test_hanging(
    recorder: Recorder, shared: FailingStore, guarded: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer is not waited for beyond a bound, whatever it does itself."""
    monkeypatch.setattr("observability.cache.guarded.WAIT_S", 0.01)
    shared.gate.clear()
    async with asyncio.timeout(10):
        assert await _value(guarded) is None
    assert _counted(recorder) == {"TimeoutError": 1}


async def test_cancelled_probe(shared: FailingStore, guarded: GuardedStore, clock: Clock) -> None:
    """The call that finds out whether the store is back may be cancelled, and the next one finds out."""
    shared.error = ConnectionError("down")
    for _ in range(FAILURES):
        await guarded.read("key", hold_s=10)
    clock.now += PAUSE_S
    shared.error = None
    shared.gate.clear()
    probe = asyncio.create_task(guarded.read("key", hold_s=10))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.wait([probe])
    shared.gate.set()
    shared.calls.clear()
    await guarded.read("key", hold_s=10)
    assert shared.calls == ["read"]


async def test_one_line_a_minute(
    shared: FailingStore, guarded: GuardedStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails for long is told of once a minute, without what its error says."""
    shared.error = ConnectionError("redis://:secret@host")
    with caplog.at_level(logging.WARNING):
        for _ in range(119):
            clock.now += 1
            await guarded.read("key", hold_s=10)
    assert len(caplog.messages) == 2
    assert "ConnectionError" in caplog.messages[0]
    assert "secret" not in caplog.text


async def test_busy(recorder: Recorder, shared: FailingStore, guarded: GuardedStore) -> None:
    """That this process has no connection left is counted and answered from memory, but nothing against the store."""
    await _put(guarded, ENTRY)
    shared.error = BusyError()
    for _ in range(FAILURES * 2):
        assert await _value(guarded) is None
    assert _counted(recorder) == {"BusyError": FAILURES * 2}
    assert await _put(guarded, LOCAL)
    shared.error = None
    assert await _value(guarded) == b"shared"
    shared.error = BusyError()
    assert await _value(guarded) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["begin", "end", "delete"]), st.integers(0, 1), st.integers(0, 1)),
            st.tuples(st.sampled_from(["fail", "mend"]), st.integers(0, 1), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 6), st.just(0)),
        ),
        max_size=40,
    )
)
def test_deletions_are_kept(steps: list[tuple[str, int, int]]) -> None:
    """Whatever fails, and however long loads take, a replica never finds what is older than its own last deletion."""
    telemetry, clock = Telemetry.build("service"), Clock()
    memory = MemoryStore(100, telemetry, clock=clock)
    ways = [FailingStore(memory), FailingStore(memory)]
    replicas = [GuardedStore(way, MemoryStore(100, telemetry, clock=clock), telemetry, clock=clock) for way in ways]
    least: dict[tuple[int, str], int] = {}
    loads: dict[tuple[int, str], tuple[str, int]] = {}

    async def run() -> None:
        for number, (step, which, key_number) in enumerate(steps):
            key = str(key_number)
            match step:
                case "begin":
                    found = await replicas[which].read(key, hold_s=1000)
                    assert found.entry is None or int(found.entry.value) >= least.get((which, key), 0)
                    loads[which, key] = (found.version, number)
                case "end" if (which, key) in loads:
                    version, loaded = loads.pop((which, key))
                    await replicas[which].put(key, version, Entry(str(loaded).encode(), 100, 0), life_s=1000)
                case "delete":
                    await replicas[which].delete(key)
                    least[which, key] = number
                case "wait":
                    clock.now += which
                case "fail" | "mend":
                    ways[which].error = ConnectionError("down") if step == "fail" else None

    logging.disable(logging.WARNING)
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


async def _loads(cache: Cache[str], count: int) -> int:
    """How many of so many calls had to load; none may fail."""
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        return "value"

    for _ in range(count):
        assert (await cache.get("key", load)).value == "value"
    return loads


@pytest.fixture
def replica(telemetry: Telemetry, clock: Clock) -> Callable[[str], tuple[Cache[str], GuardedStore]]:
    """A replica's cache and store on a Redis."""

    def make(url: str) -> tuple[Cache[str], GuardedStore]:
        local = MemoryStore(100, telemetry, clock=clock)
        store = GuardedStore(RedisStore(url, telemetry), local, telemetry, clock=clock)
        return Cache("things", store, telemetry, ttl_s=1000.0, clock=clock), store

    return make


@pytest.mark.parametrize(("mode", "error"), [("silent", "TimeoutError"), ("nonsense", "InvalidResponse")])
async def test_bad_network(
    shared_server: RedisServer,
    replica: Callable[[str], tuple[Cache[str], GuardedStore]],
    recorder: Recorder,
    mode: Mode,
    error: str,
) -> None:
    """A Redis that never answers, or answers nonsense, is left alone after a few calls; nobody sees an error."""
    async with proxy_before(shared_server.port) as proxy:
        cache, store = replica(proxy.url)
        proxy.mode = mode
        await cache.invalidate("key")
        async with asyncio.timeout(10):
            loads = await _loads(cache, 50)
        assert loads == 1
        assert _counted(recorder) == {error: FAILURES}
        assert proxy.received == FAILURES
        await cache.aclose()
        await store.aclose()


async def test_slow_network(
    shared_server: RedisServer, replica: Callable[[str], tuple[Cache[str], GuardedStore]], recorder: Recorder
) -> None:
    """A Redis that answers too late is left alone, and no late answer is taken for another call's."""
    async with proxy_before(shared_server.port) as proxy:
        cache, store = replica(proxy.url)
        proxy.delay_s = 0.3
        assert await _loads(cache, 20) >= 1
        assert _counted(recorder) == {"TimeoutError": FAILURES}
        await cache.aclose()
        await store.aclose()


@pytest.mark.usefixtures("patient")
async def test_killed_and_restarted(
    mortal_server: RedisServer, replica: Callable[[str], tuple[Cache[str], GuardedStore]], clock: Clock
) -> None:
    """A Redis may be killed and started again at any time: two replicas go on, and then share again."""
    (here, store), (there, other_store) = replica(mortal_server.url), replica(mortal_server.url)
    assert await _loads(here, 10) == 1
    assert await _loads(there, 10) == 0
    mortal_server.kill()
    assert await _loads(here, 10) == 1
    assert await _loads(there, 10) == 1
    await here.invalidate("key")
    assert await _loads(here, 10) == 1
    mortal_server.start()
    clock.now += PAUSE_S
    assert await _loads(here, 10) == 1
    assert await _loads(there, 10) == 0
    for one in (here, there, store, other_store):
        await one.aclose()
