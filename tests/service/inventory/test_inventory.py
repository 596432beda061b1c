"""The inventory's business: what may be a little old, and what may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import TypeAdapter

from observability import Telemetry
from observability.cache import Cache
from observability.cache.memory import MemoryStore
from service.errors import NotFound, OutOfStock
from service.inventory.inventory import Inventory, StockItem
from tests.service.fakes import FakeStock

pytestmark = pytest.mark.anyio


class Shelf(FakeStock):
    """A shelf that counts how often it is looked at, and can break."""

    def __init__(self) -> None:
        super().__init__([StockItem("kettle", "Kettle", 8900, "EUR", 3)])
        self.looks = 0
        self.broken = False

    async def item(self, sku: str) -> StockItem | None:
        self.looks += 1
        if self.broken:
            raise ConnectionError
        return await super().item(sku)


@pytest.fixture
def shelf() -> Shelf:
    """Three kettles."""
    return Shelf()


@pytest.fixture
def inventory(shelf: Shelf) -> Inventory:
    """The business over that shelf, with a cache whose values do not end within a test."""
    telemetry = Telemetry.build("inventory")
    of_stock = TypeAdapter[StockItem | None](StockItem | None)
    cache = Cache[StockItem | None](
        "stock",
        MemoryStore(10, telemetry),
        telemetry,
        ttl_s=1000,
        encode=of_stock.dump_json,
        decode=of_stock.validate_json,
    )
    return Inventory(shelf, cache)


async def test_from_the_cache(shelf: Shelf, inventory: Inventory) -> None:
    """Goods are looked at once and then told from the cache, and what is not known likewise."""
    for _ in range(3):
        assert (await inventory.item("kettle")).value.available == 3
        with pytest.raises(NotFound):
            await inventory.item("none")
    assert shelf.looks == 2


@pytest.mark.parametrize(
    ("change", "available"),
    [
        (lambda inventory: inventory.reserve("o2", "kettle", 1), 1),
        (lambda inventory: inventory.release("o1"), 3),
    ],
    ids=["reserve", "release"],
)
async def test_new_at_once(
    inventory: Inventory, change: Callable[[Inventory], Awaitable[object]], available: int
) -> None:
    """After a reservation and after a release the new number is told."""
    await inventory.reserve("o1", "kettle", 1)
    assert (await inventory.item("kettle")).value.available == 2
    await change(inventory)
    assert (await inventory.item("kettle")).value.available == available


async def test_promises_come_from_the_shelf(shelf: Shelf, inventory: Inventory) -> None:
    """Whether an order gets its goods is decided on the shelf, whatever the cache says."""
    assert (await inventory.item("kettle")).value.available == 3
    await shelf.reserve("elsewhere", "kettle", 3)
    assert (await inventory.item("kettle")).value.available == 3
    with pytest.raises(OutOfStock):
        await inventory.reserve("o1", "kettle", 1)


async def test_cancelled_reservation(shelf: Shelf, inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reservation whose caller is cancelled may have been made, and the new number is told."""
    await inventory.item("kettle")
    reserve = shelf.reserve

    async def reserve_and_hang(order_id: str, sku: str, quantity: int) -> None:
        await reserve(order_id, sku, quantity)
        await asyncio.Event().wait()

    monkeypatch.setattr(shelf, "reserve", reserve_and_hang)
    caller = asyncio.create_task(inventory.reserve("o1", "kettle", 1))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    assert (await inventory.item("kettle")).value.available == 2
