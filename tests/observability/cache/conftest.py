"""Stores of each kind, alone and shared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from observability import Telemetry
from observability.cache.guarded import GuardedStore
from observability.cache.memory import MemoryStore
from observability.cache.redis import RedisStore
from observability.cache.store import Store
from observability.testing import Recorder
from tests.observability.cache.fakes import Clock, FailingStore
from tests.observability.cache.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that do not kill it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def redis(shared_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    client = Redis.from_url(shared_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def mortal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs that a busy machine does not reach, where they are not what is tested."""
    monkeypatch.setattr("observability.cache.redis.TIMEOUT_S", 20.0)
    monkeypatch.setattr("observability.cache.guarded.WAIT_S", 20.0)


@pytest.fixture
def clock() -> Clock:
    """The clock of whatever is in this process."""
    return Clock()


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """Providers of the service under test."""
    return recorder.telemetry("service")


@dataclass
class Kind:
    """A kind of store: one more replica's store on the same entries, and a way to let time pass for all of them."""

    replica: Callable[[], Store]
    pass_time: Callable[[float], Awaitable[None]]


@pytest.fixture(params=["memory", "redis", "guarded", "left alone"])
async def kind(request: pytest.FixtureRequest, telemetry: Telemetry, clock: Clock) -> AsyncIterator[Kind]:
    """Each kind of store, and each state of the guarded one."""
    opened: list[Store] = []

    async def tick(seconds: float) -> None:
        clock.now += seconds

    if request.param in ("memory", "left alone"):
        memory = MemoryStore(1000, telemetry, clock=clock)
        broken = FailingStore(MemoryStore(1, telemetry), error=OSError())
        store = memory if request.param == "memory" else GuardedStore(broken, memory, telemetry, clock=clock)
        yield Kind(lambda: store, tick)
        return

    request.getfixturevalue("patient")
    server: RedisServer = request.getfixturevalue("shared_server")
    async with Redis.from_url(server.url) as client:
        await client.flushall()

        async def age(seconds: float) -> None:
            await tick(seconds)
            async for key in client.scan_iter():
                left_ms = await client.pttl(key) - round(seconds * 1000)
                await (client.pexpire(key, left_ms) if left_ms > 0 else client.delete(key))

        def replica() -> Store:
            store: Store = RedisStore(server.url, telemetry)
            if request.param == "guarded":
                store = GuardedStore(store, MemoryStore(1000, telemetry, clock=clock), telemetry, clock=clock)
            opened.append(store)
            return store

        yield Kind(replica, age)
        for one in opened:
            await one.aclose()
