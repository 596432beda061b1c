"""Orders to the end of their lives over a network that loses answers and brings requests late, in virtual time."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pytest

from observability.events.event import Event
from service.errors import DependencyError, DependencyFailed, DependencySlow, ShopError
from service.events import ORDER_PLACED, SHIPMENT_CREATED
from service.inventory.inventory import StockItem
from service.orders.order import NEXT
from service.orders.orders import LEASE_S, OrderRequest, Orders, Reserved
from service.orders.sweep import ABANDON_AFTER_S, Sweep
from service.payments.payments import DECLINED_CARD, Payments
from service.shipping.shipping import UNSHIPPABLE_SKU, Shipping
from tests.service.fakes import FakeLedger, FakeShipments, FakeStock, FakeStore
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

CUSTOMERS = 12
LATE_S = 150
"""Requests come so late at most, in seconds: after a lease and the sweep, too."""

_Result = TypeVar("_Result")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Leases, sweeps and whatever is late take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def _now() -> int:
    return int(asyncio.get_running_loop().time() * 1_000_000)


class World:
    """The shop, what goes wrong in it, and what its customers were told."""

    def __init__(self, seed: int, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.chance = random.Random(seed)  # noqa: S311 - not for secrets
        self.calm = False
        self.stock = FakeStock(
            [
                StockItem("mug", "Mug", 100, "EUR", self.chance.choice([3, 6, 1000])),
                StockItem(UNSHIPPABLE_SKU, "Anvil", 100, "EUR", 1000),
            ]
        )
        self.ledger, self.shipments, self.store = FakeLedger(), FakeShipments(), FakeStore()
        self.payments, self.shipping = Payments(self.ledger), Shipping(self.shipments, now=_now)
        self.orders = Orders(self.store, self, self, now=_now)
        self.accepted: dict[str, set[str]] = {}
        """By what a customer knows its order by."""

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:
        reservation = await self._call(partial(self.stock.reserve, order_id, sku, quantity))
        return Reserved(reservation.amount, reservation.currency)

    async def release(self, order_id: str) -> None:
        await self._call(partial(self.stock.release, order_id))

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
        await self._call(partial(self.payments.charge, order_id, amount, currency, card))

    async def refund(self, order_id: str) -> None:
        await self._call(partial(self.payments.refund, order_id))

    async def customer(self) -> None:
        """Order something, and with a key ask again, now and later."""
        key = uuid.uuid4().hex if self.chance.random() < 0.7 else None
        sku = self.chance.choice(["mug", "mug", UNSHIPPABLE_SKU])
        cards = ["5555000000000002", DECLINED_CARD] if self.chance.random() < 0.5 else ["4242424242424242"]
        for _ in range(self.chance.randint(1, 6) if key else 1):
            with suppress(ShopError, TimeoutError):
                async with asyncio.timeout(self.chance.choice([3, 30, 200])):  # 200 as in a process that stood still
                    placed = await self.orders.place(OrderRequest(sku, 1, self.chance.choice(cards)), key)
                self.accepted.setdefault(key or placed.order.id, set()).add(placed.order.id)
            await asyncio.sleep(self.chance.choice([0.5, 5, 31, 80]))

    async def sweep(self) -> None:
        """Look for what was left behind, as the service does."""
        while not self.calm:
            await Sweep(self.store, now=_now).once()
            await asyncio.sleep(5)

    async def relay(self, told: list[Event]) -> None:
        """Deliver each event until it is applied, and some again."""
        sent = 0
        while not self.over():
            for event in told[sent:]:
                self.tasks.create_task(self._deliver(event))
                sent += 1
            await asyncio.sleep(0.5)

    def over(self) -> bool:
        """Whether no order's life goes on."""
        return self.calm and not any(NEXT[order.state] for order in self.store.orders)

    async def _deliver(self, event: Event) -> None:
        again = True
        while again:
            again = self.chance.random() < 0.3
            await asyncio.sleep(self.chance.random())
            try:
                if event.type == ORDER_PLACED:
                    await self.shipping.ship(event.subject, (await self.store.get(event.subject)).sku, 1, event)
                elif event.type == SHIPMENT_CREATED:
                    await self.orders.confirm(event.subject, event)
                else:
                    await self.orders.cancel(event.subject, "Given up.", event)
            except DependencyError:
                again = True

    async def _call(self, does: Callable[[], Awaitable[_Result]]) -> _Result:
        if self.calm:
            return await does()
        await asyncio.sleep(self.chance.random())
        match self.chance.choices(
            ["works", "down", "unanswered", "late", "late and now", "frozen"], [9, 2, 2, 3, 3, 1]
        ):
            case ["down"]:
                raise DependencyFailed("down", sent=False)
            case ["unanswered"]:
                with suppress(ShopError):
                    await does()
                raise DependencySlow("no answer")
            case ["late"]:
                self._later(does)
                raise DependencySlow("no answer")
            case ["late and now"]:  # an attempt that was given up, and its repetition
                self._later(does)
            case ["frozen"]:
                await asyncio.sleep(self.chance.choice([20, 35, 70, LATE_S]))
        return await does()

    def _later(self, does: Callable[[], Awaitable[object]]) -> None:
        async def late() -> None:
            await asyncio.sleep(self.chance.uniform(0, LATE_S))
            with suppress(ShopError):
                await does()

        self.tasks.create_task(late())


@pytest.mark.parametrize("seed", range(60))
async def test_life(seed: int) -> None:
    """Whatever is lost, late or repeated: each order ends, and those and only those confirmed keep goods and money."""
    async with asyncio.TaskGroup() as tasks:
        world = World(seed, tasks)
        shelf = await world.stock.items()
        tasks.create_task(world.sweep())
        for told in (world.store.told, world.shipments.told):
            tasks.create_task(world.relay(told))
        async with asyncio.TaskGroup() as customers:
            for _ in range(CUSTOMERS):
                customers.create_task(world.customer())
                await asyncio.sleep(world.chance.uniform(0, 10))
        await asyncio.sleep(LATE_S + LEASE_S + ABANDON_AFTER_S + 10)
        world.calm = True
    orders = {order.id: order for order in world.store.orders}
    confirmed = {order.id for order in orders.values() if order.state == "confirmed"}
    payments = {order_id: await world.ledger.get(order_id) for order_id in orders}
    assert {id_ for id_, paid in payments.items() if paid and paid.approved and not paid.refunded} == confirmed
    sold = sum(before.available for before in shelf) - sum(item.available for item in await world.stock.items())
    assert sold == len(confirmed)
    for order_ids in world.accepted.values():
        (order_id,) = order_ids
        assert orders[order_id].state == ("cancelled" if orders[order_id].sku == UNSHIPPABLE_SKU else "confirmed")
