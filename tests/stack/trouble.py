"""A minute of the shop's life with everything in it that dashboards show: orders of all kinds, and failing services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from observability.faults.remote import RemoteFaults

ROUNDS = 60


async def trouble(urls: Mapping[str, str]) -> None:
    """Place orders that are confirmed, cancelled and refused, while payments and then inventory fail for a while.

    Args:
        urls: Where orders, inventory and payments answer; the last two take faults (`CLEARSPAN_FAULTS`).
    """
    faults = {
        5: ("payments", {"kind": "latency", "delay_s": 0.8, "share": 0.3, "seconds": 5}),
        15: ("payments", {"kind": "error", "share": 0.7, "seconds": 8}),
        35: ("inventory", {"kind": "error", "seconds": 10}),
    }
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        for turn in range(ROUNDS):
            if turn in faults:
                name, fault = faults[turn]
                await asyncio.to_thread(RemoteFaults(name, urls[name]).set, fault)
            orders = [
                client.post(f"{urls['orders']}/orders", json={"sku": sku, "quantity": 1})
                for sku in ("mug", "anvil", "mug", "nothing")
            ]
            reads = [
                client.get(f"{urls['orders']}/orders"),
                client.get(f"{urls['orders']}/call_external_service/"),
                client.get(f"{urls['inventory']}/stock/mug"),
            ]
            await asyncio.gather(*orders, *reads, return_exceptions=True)
            await asyncio.sleep(0.5)
