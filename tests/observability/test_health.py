"""Liveness, readiness and start-up probes."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from fastapi import FastAPI

from observability.health import Health, HealthEndpoints

pytestmark = pytest.mark.anyio


async def _get(health: Health, path: str) -> httpx.Response:
    app = HealthEndpoints(FastAPI(), health)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.get(path)


async def _passes() -> None:
    pass


async def _fails() -> None:
    raise ConnectionError("postgres://user:canary@host is down")


async def test_live_before_start() -> None:
    """A process that still starts is alive, but neither started nor ready."""
    health = Health()
    assert [(await _get(health, path)).status_code for path in ("/livez", "/startupz", "/readyz")] == [200, 503, 503]


async def test_started() -> None:
    """A started service whose checks pass is ready."""
    health = Health()
    health.register("database", _passes)
    health.start()
    response = await _get(health, "/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "pass"})
    assert (await _get(health, "/startupz")).status_code == 200


async def test_failing_dependency() -> None:
    """A dependency that is down makes the service not ready, but leaves it alive, and tells no secrets."""
    health = Health()
    health.register("database", _fails)
    health.register("cache", _passes)
    health.start()
    response = await _get(health, "/readyz")
    assert (response.status_code, response.json()) == (
        503,
        {"status": "fail", "failed": {"database": "ConnectionError"}},
    )
    assert (await _get(health, "/livez")).status_code == 200


async def test_hanging_dependency() -> None:
    """A check that never answers fails when its time is over."""
    health = Health()
    health.register("database", asyncio.Event().wait, timeout_s=0.01)  # type: ignore[arg-type]
    health.start()
    assert (await _get(health, "/readyz")).json()["failed"] == {"database": "no answer within 0.01 s"}


async def test_stubborn_dependency() -> None:
    """A check that does not heed its cancellation holds up no probe and is not started again meanwhile."""
    started, stop = [], asyncio.Event()

    async def stubborn() -> None:
        started.append(1)
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stop.wait()

    health = Health()
    health.register("database", stubborn, timeout_s=0.01)
    health.start()
    for _ in range(3):
        assert (await _get(health, "/readyz")).json()["failed"] == {"database": "no answer within 0.01 s"}
    assert started == [1]
    stop.set()


async def test_cancelled_check() -> None:
    """A check that is cancelled from within has failed, and the probe has not."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    health = Health()
    health.register("database", cancelled)
    health.start()
    assert (await _get(health, "/readyz")).json()["failed"] == {"database": "CancelledError"}


async def test_many_probes() -> None:
    """Probes that come together share one run of the check."""
    runs = []

    async def check() -> None:
        runs.append(1)
        await asyncio.sleep(0.01)

    health = Health()
    health.register("database", check)
    health.start()
    answers = await asyncio.gather(*(health.ready() for _ in range(50)))
    assert answers == [({}, {})] * 50
    assert runs == [1]


async def test_warning() -> None:
    """What only warns leaves the service ready, and is told."""
    health = Health()
    health.register("backlog", _fails, only_warns=True)
    health.start()
    answer = await _get(health, "/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "warn", "warned": {"backlog": "ConnectionError"}}


async def test_drain() -> None:
    """A draining service is not ready, stays alive, and does not ask its dependencies."""
    health = Health()
    health.register("database", _fails)
    health.start()
    health.drain()
    assert (await _get(health, "/readyz")).json()["failed"] == {"drain": "stopping"}
    assert (await _get(health, "/livez")).status_code == 200


async def test_other_requests_pass() -> None:
    """What is no probe reaches the application."""
    assert (await _get(Health(), "/livez/orders")).status_code == 404


def test_name_taken() -> None:
    """Two checks of one name are a mistake that is told at once."""
    health = Health()
    health.register("database", _passes)
    with pytest.raises(ValueError, match="registered already"):
        health.register("database", _passes)
