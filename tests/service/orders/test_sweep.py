"""Orders that were left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.orders import sweep
from service.orders.order import Order
from service.orders.sweep import ABANDON_AFTER_S, EVERY_S, Sweep
from tests.service.fakes import FakeStore
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

LEASE_S = 30
END = (LEASE_S + ABANDON_AFTER_S) * 1_000_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The waits between two sweeps take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def _left_behind(store: FakeStore, orders: int) -> None:
    for n in range(orders):
        await store.begin(Order.new(f"order-{n}", "mug", 2, at=0), "hash", None, lease_s=LEASE_S)


async def _states(store: FakeStore) -> set[str]:
    return {order.state for order in await store.page(1000, None)}


@pytest.mark.parametrize(("now", "state"), [(END, "pending"), (END + 1, "abandoned")], ids=["in time", "too late"])
async def test_patience(now: int, state: str) -> None:
    """An order is given up when its lease has been over for as long as its request may take to come again."""
    store = FakeStore()
    await _left_behind(store, 1)
    await Sweep(store, now=lambda: now).once()
    assert await _states(store) == {state}


async def test_running() -> None:
    """Orders that are left behind are given up every few seconds, however many there are."""
    store = FakeStore()
    async with Sweep(store, now=lambda: END + 1).running():
        await asyncio.sleep(EVERY_S / 2)
        await _left_behind(store, 2 * sweep.BATCH + 1)
        assert await _states(store) == {"pending"}
        await asyncio.sleep(EVERY_S)
        assert await _states(store) == {"abandoned"}


async def test_database_away() -> None:
    """A sweep that fails is followed by another one."""

    class Away(FakeStore):
        away = True

        async def abandon_expired(self, before: int, *, at: int, limit: int) -> list[str]:
            if self.away:
                self.away = False
                raise ConnectionError
            return await super().abandon_expired(before, at=at, limit=limit)

    store = Away()
    await _left_behind(store, 1)
    async with Sweep(store, now=lambda: END + 1).running():
        await asyncio.sleep(2 * EVERY_S)
    assert await _states(store) == {"abandoned"}
