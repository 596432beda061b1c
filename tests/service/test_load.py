"""What the load generator sends to the shop."""

from __future__ import annotations

from pathlib import Path

import pytest

from observability.load.mix import read_mix
from tests.service.conftest import Shop

MIX = read_mix(Path(__file__).parents[2] / "pyproject.toml")


@pytest.mark.anyio
async def test_mix(shop: Shop) -> None:
    """Orders that are confirmed, declined and cancelled, and lists of them: the shop understands each."""
    statuses, ends = {}, {}
    for name, one in MIX.items():
        answer = await shop.orders.request(one.method, one.path, json=one.body)
        statuses[name] = answer.status_code
        if answer.status_code == 201:
            ends[name] = (await shop.settled(answer.json()["id"])).state
    assert statuses == {"mug": 201, "declined": 402, "anvil": 201, "list": 200}
    assert ends == {"mug": "confirmed", "anvil": "cancelled"}
