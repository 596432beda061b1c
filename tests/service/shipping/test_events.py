"""What shipping does with events, its store faked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from observability import Telemetry
from observability.events.consumer import Consumer
from observability.events.delivery import Refused
from service.events import CONSUMERS, ORDER_PLACED, OrderPlaced, about_order
from service.shipping.events import handlers
from service.shipping.shipping import UNSHIPPABLE_SKU, Shipping
from tests.service.fakes import FakeShipments

pytestmark = pytest.mark.anyio

PLACED = about_order(ORDER_PLACED, "/orders", "order-1", OrderPlaced(sku="mug", quantity=2, amount=1, currency="EUR"))


@pytest.fixture
def store() -> FakeShipments:
    """No shipments yet."""
    return FakeShipments()


@pytest.fixture
def consumer(store: FakeShipments) -> Consumer:
    """Shipping, as those who deliver events know it."""
    return Consumer("shipping", handlers(Shipping(store, now=lambda: 7)), Telemetry.build("shipping"))


def test_routed(consumer: Consumer) -> None:
    """Shipping takes the types that are delivered to it, and no other."""
    assert consumer.types == sorted(type_ for type_, names in CONSUMERS.items() if "shipping" in names)


async def test_twice(consumer: Consumer, store: FakeShipments) -> None:
    """An order that is told of twice is shipped once."""
    for _ in range(2):
        await consumer.process(PLACED, "test")
    assert [event.type for event in store.told] == ["shipment.created"]


async def test_unshippable(consumer: Consumer, store: FakeShipments) -> None:
    """What no carrier takes is refused, and the refusal kept."""
    data = PLACED.data.replace(b"mug", UNSHIPPABLE_SKU.encode())
    await consumer.process(replace(PLACED, data=data), "test")
    assert [event.type for event in store.told] == ["shipment.refused"]
    shipment = await store.get("order-1")
    assert shipment is not None
    assert shipment.refusal == "No carrier takes goods like this: anvil."


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("order-1", b"{}"),
        ("order-1", b"not JSON"),
        ("order-1", b'{"sku":"mug","quantity":"2","amount":1,"currency":"EUR"}'),
        ("order 1", PLACED.data),
        ("x" * 65, PLACED.data),
    ],
    ids=["empty", "not JSON", "wrong type", "no id", "long id"],
)
async def test_nonsense(consumer: Consumer, store: FakeShipments, subject: str, data: bytes) -> None:
    """What is no order that was placed is refused for good."""
    with pytest.raises(Refused) as caught:
        await consumer.process(replace(PLACED, subject=subject, data=data), "test")
    assert caught.value.final
    assert store.told == []


async def test_later_version(consumer: Consumer, store: FakeShipments) -> None:
    """Members that are not known yet are left alone."""
    await consumer.process(replace(PLACED, data=PLACED.data.replace(b"{", b'{"gift":true,', 1)), "test")
    assert [event.type for event in store.told] == ["shipment.created"]
