"""Clients are asked to leave a process that is about to stop."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from observability.draining import LeaveWhileDraining
from observability.health import Health

pytestmark = pytest.mark.anyio


async def _answer(health: Health) -> httpx.Response:
    app = LeaveWhileDraining(FastAPI(), health)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.get("/docs")


async def test_connections_are_kept() -> None:
    """As long as nothing is about to stop, no connection is closed."""
    health = Health()
    health.start()
    assert "connection" not in (await _answer(health)).headers


async def test_connections_end_with_the_drain() -> None:
    """From the signal on each answer closes its connection, and is otherwise what it was."""
    health = Health()
    health.start()
    before = await _answer(health)
    health.drain()
    after = await _answer(health)
    assert after.headers.pop("connection") == "close"
    assert (after.status_code, after.headers, after.content) == (before.status_code, before.headers, before.content)
