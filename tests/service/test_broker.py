"""The shop with a broker between its services."""

from __future__ import annotations

from pathlib import Path

import pytest

from observability.testing import Recorder
from tests.nats_server import NatsServer
from tests.service.conftest import running_shop

pytestmark = pytest.mark.anyio


async def test_nats(recorder: Recorder, tmp_path: Path) -> None:
    """Orders are confirmed and cancelled as without a broker, each in one trace, and nothing is delivered over HTTP."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    try:
        async with running_shop(recorder, tmp_path / "shop", broker_url=server.url) as shop:
            shop.deliveries.clear()
            states = []
            for sku in ("mug", "anvil"):
                order = (await shop.orders.post("/orders", json={"sku": sku, "quantity": 1})).json()
                states.append((await shop.settled(order["id"])).state)
    finally:
        server.kill()
    assert states == ["confirmed", "cancelled"]
    tops = [line for line in recorder.tree(logs=False).splitlines() if line.startswith("  ") and line[2] != " "]
    assert tops == ["  orders SERVER POST /orders http.response.status_code=201"] * 2
