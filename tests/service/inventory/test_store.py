"""The shelf's contract, held by the fake and the real one on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import service.inventory
from observability.database import create_engine, migrate
from service.errors import Conflict, NotFound, OutOfStock
from service.inventory.inventory import Reservation, Stock, StockItem
from service.inventory.store import SqlStock
from tests.service.fakes import FakeStock

pytestmark = pytest.mark.anyio

KETTLES = 3


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def stock(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> AsyncIterator[Stock]:
    """A shelf of each kind with the first goods on it."""
    if request.param == "fake":
        yield FakeStock(
            [StockItem("mug", "Mug", 1250, "EUR", 1_000_000), StockItem("kettle", "Kettle", 8900, "EUR", KETTLES)]
        )
        return
    engine = create_engine(empty_database(request.param))
    await migrate(engine, "inventory", Path(service.inventory.__file__).with_name("migrations"))
    yield SqlStock(engine)
    await engine.dispose()


async def _left(stock: Stock, sku: str) -> int:
    item = await stock.item(sku)
    assert item is not None
    return item.available


async def test_items(stock: Stock) -> None:
    """Goods are listed by sku; unknown ones are None."""
    skus = [item.sku for item in await stock.items()]
    assert skus == sorted(skus)
    assert await stock.item("none") is None


async def test_reserve(stock: Stock) -> None:
    """A reservation takes the goods once, and tells the same price each time."""
    for _ in range(2):
        assert await stock.reserve("order-1", "kettle", 2) == Reservation("order-1", "kettle", 2, 17800, "EUR")
    assert await _left(stock, "kettle") == KETTLES - 2


async def test_refused(stock: Stock) -> None:
    """What is unknown, too much, or not what the order reserved before is refused and takes nothing."""
    await stock.reserve("order-1", "kettle", 1)
    with pytest.raises(NotFound):
        await stock.reserve("order-2", "none", 1)
    with pytest.raises(OutOfStock):
        await stock.reserve("order-3", "kettle", KETTLES)
    for sku, quantity in (("kettle", 2), ("mug", 1)):
        with pytest.raises(Conflict) as caught:
            await stock.reserve("order-1", sku, quantity)
        assert not isinstance(caught.value, OutOfStock)
    assert await _left(stock, "kettle") == KETTLES - 1


async def test_release(stock: Stock) -> None:
    """A release puts the goods back once and says which; of an order that has none it does nothing."""
    await stock.reserve("order-1", "kettle", 2)
    released = [await stock.release(order_id) for order_id in ("order-1", "order-1", "order-2", "order-2")]
    assert released == ["kettle", None, None, None]
    assert await _left(stock, "kettle") == KETTLES


async def test_late_reservation(stock: Stock) -> None:
    """An order that was released gets no goods any more, whether it had some before or not."""
    await stock.reserve("order-1", "kettle", 2)
    for order_id in ("order-1", "order-2"):
        await stock.release(order_id)
        with pytest.raises(Conflict) as caught:
            await stock.reserve(order_id, "kettle", 2)
        assert not isinstance(caught.value, OutOfStock)
    assert await _left(stock, "kettle") == KETTLES


async def test_out_of_stock_for_good(stock: Stock) -> None:
    """An order that was told that too few are left gets none by an attempt that comes late, when there are some."""
    await stock.reserve("order-1", "kettle", KETTLES)
    with pytest.raises(OutOfStock):
        await stock.reserve("order-2", "kettle", 1)
    await stock.release("order-1")
    with pytest.raises(OutOfStock):
        await stock.reserve("order-2", "kettle", 1)
    assert await stock.release("order-2") is None
    assert await _left(stock, "kettle") == KETTLES


async def test_reservation_and_release_at_once(stock: Stock) -> None:
    """Of reservations and releases of one order at once the releases have the last word."""
    for n in range(5):
        order_id = f"order-{n}"
        outcomes = await asyncio.gather(
            stock.reserve(order_id, "kettle", 2),
            stock.release(order_id),
            stock.release(order_id),
            return_exceptions=True,
        )
        assert not [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, Conflict)]
        assert await _left(stock, "kettle") == KETTLES


async def test_never_oversold(stock: Stock) -> None:
    """However many orders ask at once, no more is set aside than there is."""
    outcomes = await asyncio.gather(
        *(stock.reserve(f"order-{n}", "kettle", 1) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == KETTLES
    assert sum(isinstance(outcome, OutOfStock) for outcome in outcomes) == 50 - KETTLES
    assert await _left(stock, "kettle") == 0


async def test_concurrent_repeats(stock: Stock) -> None:
    """One order that asks many times at once gets its goods once; releases at once give them back once."""
    await asyncio.gather(*(stock.reserve("order-1", "kettle", 2) for _ in range(10)))
    assert await _left(stock, "kettle") == KETTLES - 2
    await asyncio.gather(*(stock.release("order-1") for _ in range(10)))
    assert await _left(stock, "kettle") == KETTLES
