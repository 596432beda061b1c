"""Two replicas of inventory on one database and one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import AnyUrl

from observability.telemetry import CACHE_REQUESTS, CACHE_RESULT
from observability.testing import Recorder, client_for, running
from service.inventory.app import create_app
from service.settings import ServiceSettings
from tests.observability.cache.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def replicas(
    server: RedisServer, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A client of each."""
    monkeypatch.setattr("observability.cache.redis.TIMEOUT_S", 20.0)  # a busy machine is no failure
    monkeypatch.setattr("observability.cache.guarded.WAIT_S", 20.0)
    settings = ServiceSettings(data_dir=tmp_path, redis_url=AnyUrl(server.url))
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("here", "there"):
            app = create_app(settings, telemetry=recorder.telemetry(name))
            await stack.enter_async_context(running(app))
            clients.append(await stack.enter_async_context(client_for(app)))
        yield clients[0], clients[1]


async def _available(client: httpx.AsyncClient) -> int:
    response = await client.get("/stock/mug")
    assert response.status_code == 200
    available: int = response.json()["available"]
    return available


async def test_shared(replicas: tuple[httpx.AsyncClient, httpx.AsyncClient], recorder: Recorder) -> None:
    """What one replica has read the other one does not, and what one changes the other one tells at once."""
    here, there = replicas
    before = await _available(here)
    assert await _available(there) == before
    (point,) = recorder.metrics("there")[CACHE_REQUESTS.name]
    assert point.attributes[CACHE_RESULT] == "hit"
    for client, change in ((here, -2), (there, -3)):
        await client.put(f"/reservations/order{-change}", json={"sku": "mug", "quantity": -change})
    assert [await _available(client) for client in replicas] == [before - 5, before - 5]
    await there.delete("/reservations/order2")
    assert [await _available(client) for client in replicas] == [before - 3, before - 3]


async def test_age(replicas: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    """An answer that was read for this request has no Age; one that was kept has its own, in whole seconds."""
    here, there = replicas
    assert "age" not in (await here.get("/stock/mug")).headers
    assert (await there.get("/stock/mug")).headers["age"] in {"0", "1"}


async def test_without_redis(
    replicas: tuple[httpx.AsyncClient, httpx.AsyncClient], server: RedisServer, recorder: Recorder
) -> None:
    """Redis may be gone: everything is answered as before, and the service is ready."""
    here, there = replicas
    before = await _available(here)
    server.kill()
    assert (await here.put("/reservations/order1", json={"sku": "mug", "quantity": 1})).status_code == 200
    assert [await _available(client) for client in (here, there)] == [before - 1, before - 1]
    assert (await here.get("/readyz")).status_code == 200
    server.start()
    assert await _available(there) == before - 1
    assert not [span for span in recorder.spans if span.kind.name == "SERVER" and not span.status.is_ok]
