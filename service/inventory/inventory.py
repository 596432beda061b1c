"""What inventory does: tell what is on the shelf, and set goods aside for an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.errors import NotFound


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
            OutOfStock: Fewer are left.
            Conflict: The order has reserved something else.
        """
        ...

    async def release(self, order_id: str) -> None:
        """Put an order's goods back, if it has any."""
        ...


class Inventory:
    """The inventory's business."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    async def items(self) -> list[StockItem]:
        """Everything on the shelf."""
        return await self._stock.items()

    async def item(self, sku: str) -> StockItem:
        """One kind of goods.

        Raises:
            NotFound: No such sku.
        """
        item = await self._stock.item(sku)
        if item is None:
            raise NotFound("No goods are known by this sku; GET /stock lists them.")
        return item

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        """Set goods aside for an order; see `Stock.reserve`."""
        return await self._stock.reserve(order_id, sku, quantity)

    async def release(self, order_id: str) -> None:
        """Put an order's goods back; repeatable."""
        await self._stock.release(order_id)
