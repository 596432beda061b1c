"""What orders does with events, its neighbours faked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from observability import Telemetry
from observability.events.consumer import Consumer
from observability.events.delivery import DeliveryError, Refused, Unavailable
from observability.events.event import Event
from service.errors import DependencyError, DependencyFailed, DependencyUnavailable
from service.events import (
    CONSUMERS,
    ORDER_ABANDONED,
    SHIPMENT_CREATED,
    SHIPMENT_REFUSED,
    OrderAbandoned,
    ShipmentCreated,
    ShipmentRefused,
    about_order,
)
from service.orders.events import handlers
from service.orders.order import Order
from service.orders.orders import Orders
from tests.service.fakes import FakeInventory, FakePayments, FakeStore

pytestmark = pytest.mark.anyio

CREATED = about_order(SHIPMENT_CREATED, "/shipping", "order-1", ShipmentCreated(sku="mug", quantity=2))
REFUSED = about_order(SHIPMENT_REFUSED, "/shipping", "order-1", ShipmentRefused(reason="too heavy"))
ABANDONED = about_order(ORDER_ABANDONED, "/orders", "order-1", OrderAbandoned(reason="too late"))
ORDER = Order.new("order-1", "mug", 2, at=1)


class World:
    """Orders as those who deliver events know it, and what is around it: one order, reserved and paid."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.inventory = FakeInventory(reserved={"order-1"})
        self.payments = FakePayments(charged={"order-1": 200})
        orders = Orders(self.store, self.inventory, self.payments, now=lambda: 9)
        self.consumer = Consumer("orders", handlers(lambda: orders), Telemetry.build("orders"))

    async def order_is(self, state: str) -> None:
        """Bring the order into the state in which an event finds it."""
        await self.store.begin(ORDER, "hash", None, lease_s=1)
        if state != "pending":
            await self.store.advance(ORDER.placed(200, "EUR", 2) if state == "placed" else ORDER.to("abandoned", 2))

    async def taken(self) -> tuple[set[str], set[str]]:
        """The orders that have goods, and those that have paid."""
        return self.inventory.reserved, set(self.payments.charged)


@pytest.fixture
def world() -> World:
    """The world of one test."""
    return World()


def test_routed(world: World) -> None:
    """Orders takes the types that are delivered to it, and no other."""
    assert world.consumer.types == sorted(type_ for type_, names in CONSUMERS.items() if "orders" in names)


async def test_shipped(world: World) -> None:
    """A shipment confirms its order, once however often it is told."""
    await world.order_is("placed")
    for _ in range(2):
        await world.consumer.process(CREATED, "test")
    assert (await world.store.get("order-1")).state == "confirmed"
    assert await world.taken() == ({"order-1"}, {"order-1"})


@pytest.mark.parametrize(
    ("state", "event", "reason"),
    [("placed", REFUSED, "too heavy"), ("abandoned", ABANDONED, "too late")],
    ids=["shipment refused", "abandoned"],
)
async def test_undone(world: World, state: str, event: Event, reason: str) -> None:
    """An order that is not shipped, or was given up, gives all back and is cancelled, once however often it is told."""
    await world.order_is(state)
    for _ in range(2):
        await world.consumer.process(event, "test")
    order = await world.store.get("order-1")
    assert (order.state, order.history[-1].reason) == ("cancelled", reason)
    assert await world.taken() == (set(), set())
    assert world.inventory.calls == ["release"]


@pytest.mark.parametrize("event", [REFUSED, ABANDONED, CREATED], ids=lambda event: event.type)
async def test_too_late(world: World, event: Event) -> None:
    """An event that comes for an order whose life is over changes nothing and takes nothing back."""
    await world.order_is("placed")
    await world.consumer.process(CREATED, "test")
    await world.consumer.process(replace(event, id="another"), "test")
    assert (await world.store.get("order-1")).state == "confirmed"
    assert await world.taken() == ({"order-1"}, {"order-1"})


@pytest.mark.parametrize("event", [REFUSED, ABANDONED, CREATED], ids=lambda event: event.type)
async def test_unknown_order(world: World, event: Event) -> None:
    """An event of an order that is not known is refused for good."""
    with pytest.raises(Refused) as caught:
        await world.consumer.process(event, "test")
    assert caught.value.final


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (DependencyFailed("inventory answered 500."), Refused),
        (DependencyUnavailable("inventory is not asked.", sent=False, wait_s=1), Unavailable),
    ],
    ids=["answered", "not asked"],
)
async def test_not_undone_yet(world: World, failure: DependencyError, outcome: type[DeliveryError]) -> None:
    """An order that cannot be undone now is undone when the event comes again; who was not even asked delays all."""
    await world.order_is("placed")
    world.inventory.release_fails = failure
    with pytest.raises(outcome) as caught:
        await world.consumer.process(REFUSED, "test")
    assert not getattr(caught.value, "final", False)
    assert (await world.store.get("order-1")).state == "placed"
    world.inventory.release_fails = None
    await world.consumer.process(REFUSED, "test")
    assert (await world.store.get("order-1")).state == "cancelled"
    assert await world.taken() == (set(), set())
