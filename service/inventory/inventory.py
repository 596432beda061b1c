"""What inventory does: tell what is on the shelf, and set goods aside for an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from observability.cache import Cache, Cached
from service.errors import NotFound

STOCK_TTL_S = 5.0
"""How old what is told of one kind of goods may be, in seconds; a reservation makes it new at once."""


@dataclass(frozen=True, slots=True)
class StockItem:
    """Goods of one kind; the price is in minor units of the currency."""

    sku: str
    name: str
    unit_price: int
    currency: str
    available: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Goods set aside for an order; `amount` is what they cost, in minor units."""

    order_id: str
    sku: str
    quantity: int
    amount: int
    currency: str


class Stock(Protocol):
    """Where the goods are kept. Each call is one transaction."""

    async def items(self) -> list[StockItem]:
        """Everything on the shelf, by sku."""
        ...

    async def item(self, sku: str) -> StockItem | None:
        """One kind of goods, or None."""
        ...

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        """Set goods aside, once for an order however often it is asked for.

        Raises:
            NotFound: No such sku.
            OutOfStock: Fewer are left, or were when the order asked first: no attempt that comes late reserves any.
            Conflict: The order has reserved something else, or was released.
        """
        ...

    async def release(self, order_id: str) -> str | None:
        """Put an order's goods back, if it has any, and set none aside for it any more.

        Returns:
            Of which sku the goods were, if any were put back.
        """
        ...


class Inventory:
    """The inventory's business.

    What is told of one kind of goods may be a little old, and comes from the cache; what is promised to an order is
    decided on the shelf, never on what the cache says of it.
    """

    def __init__(self, stock: Stock, cache: Cache[StockItem | None]) -> None:
        self._stock = stock
        self._cache = cache

    async def items(self) -> list[StockItem]:
        """Everything on the shelf."""
        return await self._stock.items()

    async def item(self, sku: str) -> Cached[StockItem]:
        """One kind of goods, as it is or was a little while ago.

        Raises:
            NotFound: No such sku.
        """
        cached = await self._cache.get(sku, lambda: self._stock.item(sku))
        if cached.value is None:
            raise NotFound("No goods are known by this sku; GET /stock lists them.")
        return Cached(cached.value, cached.age_s, cached.stale)

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        """Set goods aside for an order; see `Stock.reserve`."""
        try:
            return await self._stock.reserve(order_id, sku, quantity)
        finally:
            # Whatever came of it: one that failed or was cancelled may have been done all the same.
            await self._cache.invalidate(sku)

    async def release(self, order_id: str) -> None:
        """Put an order's goods back; repeatable.

        An order that has none is marked, since its reservation may still be under way: it will be refused.
        """
        sku = await self._stock.release(order_id)
        if sku is not None:
            await self._cache.invalidate(sku)
