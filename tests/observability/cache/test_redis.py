"""What is special about entries in a real Redis."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from observability import Telemetry
from observability.cache import open_store
from observability.cache.guarded import GuardedStore
from observability.cache.memory import MemoryStore
from observability.cache.redis import MAX_CONNECTIONS, BusyError, RedisStore, UnreadableEntryError
from observability.cache.store import Entry
from observability.testing import Recorder
from tests.observability.cache.proxy import proxy_before
from tests.observability.cache.redis_server import RedisServer

pytestmark = pytest.mark.anyio

ENTRY = Entry(b"value", 1, 0)


@pytest.fixture
async def store(
    redis: Redis,  # noqa: ARG001 - emptied
    patient: None,  # noqa: ARG001 - as its effect
    shared_server: RedisServer,
    telemetry: Telemetry,
) -> AsyncIterator[RedisStore]:
    """A store in an empty Redis."""
    store = RedisStore(shared_server.url, telemetry)
    yield store
    await store.aclose()


async def _put(store: RedisStore, key: str, entry: Entry = ENTRY) -> None:
    version = (await store.read(key, hold_s=10)).version
    assert await store.put(key, version, entry, life_s=60)


HEADER = json.dumps(["key", 1.0, 0.0, 60.0])


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "garbage",
        "[]\nvalue",
        '["key", "x", 0, 60]\nvalue',
        '["other", 1.0, 0.0, 60.0]\nvalue',
        "null\nvalue",
    ],
)
async def test_garbage(redis: Redis, store: RedisStore, telemetry: Telemetry, garbage: str) -> None:
    """What is no entry of the key, such as another key's, is never given, and goes with the next call."""
    await _put(store, "key")
    await redis.hset("key", "entry", garbage)
    if garbage:
        with pytest.raises(UnreadableEntryError):
            await store.read("key", hold_s=10)
    guarded = GuardedStore(store, MemoryStore(10, telemetry), telemetry)
    for _ in range(2):
        found = await guarded.read("key", hold_s=10)
        assert found.entry is None
    assert await guarded.put("key", found.version, ENTRY, life_s=60)
    assert (await store.read("key", hold_s=10)).entry == ENTRY


async def test_foreign_type(redis: Redis, store: RedisStore) -> None:
    """Something else than a hash under a key of the cache is taken away."""
    await redis.set("key", "somebody else's")
    await _put(store, "key")
    assert (await store.read("key", hold_s=10)).entry == ENTRY


async def test_endless(redis: Redis, store: RedisStore) -> None:
    """An entry that has lost its end is not believed, since its age is not known."""
    await _put(store, "key")
    await redis.persist("key")
    with pytest.raises(UnreadableEntryError):
        await store.read("key", hold_s=10)


async def test_everything_ends(redis: Redis, store: RedisStore) -> None:
    """Whatever is written has an end, versions of nothing too."""
    await _put(store, "key")
    await store.read("nothing", hold_s=10)
    assert [0 < await redis.pttl(key) <= 60_000 for key in ("key", "nothing")] == [True, True]


@pytest.mark.usefixtures("redis", "patient")
async def test_cancelled_callers(shared_server: RedisServer, telemetry: Telemetry) -> None:
    """However many callers are cancelled while Redis is slow, each later one gets the answer of its own key."""
    chance = random.Random(1)  # noqa: S311 - when, not what
    async with proxy_before(shared_server.port) as proxy, aclosing(RedisStore(proxy.url, telemetry)) as store:
        keys = [f"key{n}" for n in range(50)]
        for key in keys:
            await _put(store, key, Entry(key.encode(), 1, 0))
        proxy.delay_s = 0.005
        loop = asyncio.get_running_loop()
        callers = [asyncio.create_task(store.read(chance.choice(keys), hold_s=10)) for _ in range(1000)]
        for caller in callers[::2]:
            loop.call_later(chance.random() * 0.3, caller.cancel)
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        cancelled = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert 0 < cancelled <= 500
        assert not [one for one in outcomes if isinstance(one, Exception)]
        proxy.delay_s = 0
        found = await asyncio.gather(*(store.read(key, hold_s=10) for key in keys))
        assert [one.entry and one.entry.value for one in found] == [key.encode() for key in keys]
        assert store._slots._value == MAX_CONNECTIONS
        assert not store._commands


async def test_connections(redis: Redis, store: RedisStore) -> None:
    """However many calls come at once, the connections are bounded."""
    before = len(await redis.client_list())
    await asyncio.gather(*(store.read(str(n), hold_s=10) for n in range(200)))
    assert before < len(await redis.client_list()) <= before + MAX_CONNECTIONS


async def test_shared_reads(redis: Redis, store: RedisStore) -> None:
    """Callers that ask for one key at once share a read, but never one that was sent before they asked."""
    await redis.config_resetstat()
    first = [asyncio.create_task(store.read("key", hold_s=10)) for _ in range(1000)]
    while store._unsent or not store._commands:  # noqa: ASYNC110 - until the first read is sent
        await asyncio.sleep(0)
    await redis.delete("key")
    second = await store.read("key", hold_s=10)
    assert second.version == (await store.read("key", hold_s=10)).version
    assert len({found.version for found in await asyncio.gather(*first)}) == 1
    assert (await redis.info("commandstats"))["cmdstat_eval"]["calls"] == 3


async def test_busy(redis: Redis, shared_server: RedisServer, telemetry: Telemetry) -> None:
    """A call that finds no free connection for too long says so, and leaves the next one nothing behind."""
    del redis
    async with aclosing(RedisStore(shared_server.url, telemetry)) as store:
        for _ in range(MAX_CONNECTIONS):
            await store._slots.acquire()
        with pytest.raises(BusyError):
            await asyncio.wait_for(store.read("key", hold_s=10), 10)
        for _ in range(MAX_CONNECTIONS):
            store._slots.release()
        assert not store._unsent
        assert (await store.read("key", hold_s=10)).entry is None
        assert store._slots._value == MAX_CONNECTIONS


async def test_out_of_step(redis: Redis, store: RedisStore) -> None:
    """After an answer that is not of its key, no connection that was open then is used any more."""
    await _put(store, "key")
    await redis.hset("key", "entry", HEADER.replace("key", "other") + "\nvalue")
    own = {client["id"] for client in await redis.client_list() if client["cmd"] == "eval"}
    assert own
    with pytest.raises(UnreadableEntryError):
        await store.read("key", hold_s=10)
    await store.read("unrelated", hold_s=10)
    assert not own & {client["id"] for client in await redis.client_list()}


async def test_told(recorder: Recorder, store: RedisStore) -> None:
    """Each command is a client span in the stable conventions, without keys or values."""
    await _put(store, "secret")
    spans = [span for span in recorder.spans if span.name == "EVAL"]
    assert [(span.kind.name, (span.attributes or {})["db.system.name"]) for span in spans] == [("CLIENT", "redis")] * 2
    assert not [span for span in spans if "secret" in str(span.attributes)]


async def test_failure_told(recorder: Recorder, telemetry: Telemetry, shared_server: RedisServer) -> None:
    """A command that Redis does not answer is a span with an error, not one that merely ends."""
    async with proxy_before(shared_server.port) as proxy:
        proxy.mode = "silent"
        store = GuardedStore(RedisStore(proxy.url, telemetry), MemoryStore(10, telemetry), telemetry)
        await store.read("key", hold_s=10)
        await store.aclose()
    (span,) = recorder.spans
    assert span.status.status_code.name == "ERROR"


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_open(shared_server: RedisServer, telemetry: Telemetry, scheme: str) -> None:
    """The URL names the store, whichever of the two programs answers there."""
    url = shared_server.url.replace("redis", scheme)
    stores = [open_store(url, telemetry) for _ in range(2)]
    version = (await stores[0].read("opened", hold_s=10)).version
    assert (await stores[1].read("opened", hold_s=10)).version == version
    for store in stores:
        await store.aclose()


async def test_open_memory(telemetry: Telemetry) -> None:
    """Without a URL each process has its own memory."""
    assert isinstance(open_store(None, telemetry), MemoryStore)


@pytest.mark.parametrize("url", ["http://canary", "canary", "redis://host/0?canary=1", "redis://host?db=canary"])
async def test_wrong_url(telemetry: Telemetry, url: str) -> None:
    """A URL that names no store is refused when it is opened, and not repeated."""
    with pytest.raises(ValueError, match=r"Redis|'db'") as caught:
        open_store(url, telemetry)
    assert "canary" not in str(caught.value)
