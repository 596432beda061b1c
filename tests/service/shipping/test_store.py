"""The contract of shipments' store, held by the fake and the real one on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import service.shipping
from observability import Telemetry
from observability.database import create_engine, migrate
from observability.events.event import Event
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from service.events import ORDER_PLACED, OrderPlaced, about_order
from service.shipping.shipping import Shipment, Store
from service.shipping.store import SqlShipments
from tests.service.fakes import FakeShipments

pytestmark = pytest.mark.anyio

SHIPMENT = Shipment("order-1", 1, "mug", 2, None)
PLACED = about_order(ORDER_PLACED, "/orders", "order-1", OrderPlaced(sku="mug", quantity=2, amount=1, currency="EUR"))


@dataclass
class Kept:
    """A store, and the events that it has kept."""

    store: Store
    told: Callable[[], Awaitable[list[Event]]]


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def kept(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> AsyncIterator[Kept]:
    """An empty store of each kind."""
    if request.param == "fake":
        fake = FakeShipments()

        async def told() -> list[Event]:
            return fake.told

        yield Kept(fake, told)
        return
    engine = create_engine(empty_database(request.param))
    await migrate(engine, "shipping", Path(service.shipping.__file__).with_name("migrations"))
    telemetry = Telemetry.build("shipping")
    outbox = Outbox(engine, "shipping", telemetry)

    async def unsent() -> list[Event]:
        return [stored.event for stored in await outbox.unsent(1000)]

    yield Kept(SqlShipments(engine, outbox, Inbox(engine, "shipping", telemetry)), unsent)
    await engine.dispose()


@pytest.mark.parametrize(
    ("refusal", "type_", "data"),
    [
        (None, "shipment.created", b'{"sku":"mug","quantity":2}'),
        ("too heavy", "shipment.refused", b'{"reason":"too heavy"}'),
    ],
    ids=["created", "refused"],
)
async def test_add(kept: Kept, refusal: str | None, type_: str, data: bytes) -> None:
    """A shipment is kept once for an event however often that comes, and told of once."""
    shipment = replace(SHIPMENT, refusal=refusal)
    assert await kept.store.get("order-1") is None
    assert [await kept.store.add(shipment, PLACED) for _ in range(3)] == [True, False, False]
    assert await kept.store.get("order-1") == shipment
    (told,) = await kept.told()
    assert (told.type, told.source, told.subject, told.data) == (type_, "/shipping", "order-1", data)


async def test_at_once(kept: Kept) -> None:
    """Of many deliveries of an event at once one has an effect."""
    outcomes = await asyncio.gather(*(kept.store.add(SHIPMENT, PLACED) for _ in range(10)))
    assert outcomes.count(True) == 1
    assert len(await kept.told()) == 1
