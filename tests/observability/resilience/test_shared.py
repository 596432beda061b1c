"""Breakers that open together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from observability.resilience import shared as shared_module
from observability.resilience.breaker import BreakerOptions, CircuitBreaker, State
from observability.resilience.client import Dependency as DependencySettings
from observability.resilience.client import create_client
from observability.resilience.shared import SharedBreakers
from observability.testing import Recorder
from tests.observability.cache.redis_server import RedisServer
from tests.observability.resilience.conftest import Dependency

pytestmark = pytest.mark.anyio

SETTINGS = DependencySettings(name="inventory", breaker=BreakerOptions(min_attempts=2, open_s=1))


@pytest.fixture
def anyio_backend() -> str:
    """Redis answers in real time."""
    return "asyncio"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


class Replica:
    """One replica's client, its dependency, and its breaker."""

    def __init__(self, client: httpx.AsyncClient, dependency: Dependency, breaker: CircuitBreaker) -> None:
        self.client = client
        self.dependency = dependency
        self.breaker = breaker.breaker

    async def fail(self) -> None:
        """Let two calls fail, after which its breaker is open."""
        for _ in range(2):
            await self.client.post("http://inventory/")
        assert self.breaker.state is State.OPEN


@pytest.fixture
async def replicas(
    recorder: Recorder, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Replica]]:
    """Two replicas of a service, on one Redis, whose dependency fails for the first only."""
    monkeypatch.setattr(shared_module, "POLL_S", 0.01)
    async with AsyncExitStack() as stack:
        made = []
        for number, status in enumerate((500, 200)):
            shared = await stack.enter_async_context(SharedBreakers(redis.url))
            dependency = Dependency(status)
            telemetry = recorder.telemetry(f"orders {number}")
            client = await stack.enter_async_context(create_client(SETTINGS, telemetry, dependency, shared))
            step = client._transport
            while not isinstance(step, CircuitBreaker):
                step = step._inner  # type: ignore[attr-defined]  # a step of the chain
            made.append(Replica(client, dependency, step))
        yield made


async def _until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not seen():  # noqa: ASYNC110 - another connection's doing
            await asyncio.sleep(0.005)


async def test_opens_elsewhere(replicas: list[Replica]) -> None:
    """What one replica has learned of a dependency keeps the others from asking, for as long and no longer."""
    first, second = replicas
    await first.fail()
    await _until(lambda: second.breaker.state is State.OPEN)
    with pytest.raises(httpx.TransportError, match="left alone"):
        await second.client.post("http://inventory/")
    assert second.dependency.requests == []
    now = asyncio.get_running_loop().time()
    assert 0 < second.breaker.retry_after(now) <= 1.0
    await _until(lambda: second.breaker.retry_after(asyncio.get_running_loop().time()) == 0)
    assert (await second.client.post("http://inventory/")).status_code == 200
    assert second.breaker.state is State.CLOSED


async def test_not_told_on(replicas: list[Replica]) -> None:
    """What a replica has from another one it does not tell again, else none would ever close."""
    first, second = replicas
    await first.fail()
    await _until(lambda: second.breaker.state is State.OPEN)
    first.dependency._answers[:] = [200]
    await _until(lambda: first.breaker.retry_after(asyncio.get_running_loop().time()) == 0)
    assert (await first.client.post("http://inventory/")).status_code == 200
    await _until(lambda: second.breaker.retry_after(asyncio.get_running_loop().time()) == 0)
    assert (await second.client.post("http://inventory/")).status_code == 200
    assert (first.breaker.state, second.breaker.state) == (State.CLOSED, State.CLOSED)


async def test_without_redis(replicas: list[Replica], redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Without Redis each replica has its own breaker and complains once; when Redis is back they share again."""
    first, second = replicas
    redis.kill()
    await _until(lambda: "breakers are not shared" in caplog.text)
    await first.fail()
    for _ in range(5):
        assert (await second.client.post("http://inventory/")).status_code == 200
        await asyncio.sleep(0.02)
    assert caplog.text.count("breakers are not shared") == 2  # one of each replica
    redis.start()
    await _until(lambda: first.breaker.retry_after(asyncio.get_running_loop().time()) == 0)
    await first.client.post("http://inventory/")  # the probe, which fails
    await _until(lambda: second.breaker.state is State.OPEN)
