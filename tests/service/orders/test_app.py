"""Orders, wired."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from observability.testing import Recorder, client_for, running
from service.orders import app as orders_app
from service.settings import OrdersSettings

pytestmark = pytest.mark.anyio


async def test_too_many_requests(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request more than are served at once is told to come again, and one that comes later is served."""
    monkeypatch.setattr(orders_app, "MAX_REQUESTS", 2)
    arrived, leave = asyncio.Semaphore(0), asyncio.Event()

    async def answer(_request: httpx.Request) -> httpx.Response:
        arrived.release()
        await leave.wait()
        return httpx.Response(200, json={})

    app = orders_app.create_app(
        OrdersSettings(data_dir=tmp_path),
        telemetry=recorder.telemetry("orders"),
        transports={"external": httpx.MockTransport(answer)},
    )
    async with running(app), client_for(app) as client:
        served = [asyncio.create_task(client.get("/call_external_service/")) for _ in range(2)]
        async with asyncio.timeout(10):
            for _ in served:
                await arrived.acquire()
        refused = await client.get("/")
        leave.set()
        statuses = [(await one).status_code for one in served]
        again = await client.get("/")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (statuses, again.status_code) == ([200, 200], 200)
