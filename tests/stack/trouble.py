"""Half a minute of a shop in which everything happens that dashboards show: orders of all kinds, services that hang."""

from __future__ import annotations

import asyncio

import httpx

from tests.running_shop import RunningShop

_GOODS = (
    "mug",
    "anvil",
    "mug",
    "nothing",
) * 6  # confirmed, cancelled, and refused; enough of them for a breaker to open


def trouble(shop: RunningShop) -> None:
    """Place orders all the time, while first payments hangs for a while, then inventory."""
    asyncio.run(_trouble(shop))


async def _trouble(shop: RunningShop) -> None:
    customers = [asyncio.create_task(_shop_for(shop.orders, sku)) for sku in _GOODS]
    customers.append(asyncio.create_task(_look_at(shop.inventory)))
    try:
        for name in ("payments", "inventory"):
            await asyncio.sleep(5)
            process = shop.child(name)
            process.suspend()
            try:
                await asyncio.sleep(8)
            finally:
                process.resume()
        await asyncio.sleep(10)  # until breakers are closed again, and what was abandoned is cancelled
    finally:
        for customer in customers:
            customer.cancel()
        await asyncio.gather(*customers, return_exceptions=True)


async def _shop_for(orders: str, sku: str) -> None:
    async with httpx.AsyncClient(base_url=orders, trust_env=False, timeout=30) as client:
        while True:
            await client.post("/orders", json={"sku": sku, "quantity": 1})
            await client.get("/orders")
            await client.get("/call_external_service/")
            await asyncio.sleep(0.2)


async def _look_at(inventory: str) -> None:
    async with httpx.AsyncClient(base_url=inventory, trust_env=False, timeout=30) as client:
        while True:
            await client.get("/stock/mug")
            await asyncio.sleep(0.2)
