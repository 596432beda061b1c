"""The shelf in a SQL database."""

from __future__ import annotations

from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from observability.database import for_reading, insert_or_find
from service.errors import Conflict, NotFound, OutOfStock
from service.inventory.inventory import Reservation, StockItem

_metadata = sa.MetaData()
_stock = sa.Table(
    "stock",
    _metadata,
    sa.Column("sku", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200)),
    sa.Column("unit_price", sa.BigInteger),
    sa.Column("currency", sa.String(3)),
    sa.Column("available", sa.BigInteger),
)
_reservations = sa.Table(
    "reservations",
    _metadata,
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("sku", sa.String(64)),
    sa.Column("quantity", sa.BigInteger),
    sa.Column("released", sa.Boolean),
)


class SqlStock:
    """`service.inventory.inventory.Stock` on SQLAlchemy."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = for_reading(engine)

    async def items(self) -> list[StockItem]:
        """Everything on the shelf, by sku."""
        async with self._reading.connect() as connection:
            rows = await connection.execute(sa.select(_stock).order_by(_stock.c.sku))
            return [StockItem(**row) for row in rows.mappings()]

    async def item(self, sku: str) -> StockItem | None:
        """One kind of goods, or None."""
        async with self._reading.connect() as connection:
            return await _item(connection, sku)

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        """Set goods aside; the update itself checks what is left, so two orders cannot have the same goods."""
        reservation = await insert_or_find(partial(self._reserve, order_id, sku, quantity))
        if reservation is None:
            raise OutOfStock(f"Fewer than {quantity} are left.")
        return reservation

    async def _reserve(self, order_id: str, sku: str, quantity: int) -> Reservation | None:
        """The reservation; None if too few are left, which is kept, since the order is told so for good."""
        async with self._engine.begin() as connection:
            # Locked, so that of one order's requests at once the later ones find what the first one has reserved.
            item = await _item(connection, sku, lock=True)
            if item is None:
                raise NotFound("No goods are known by this sku; GET /stock lists them.")
            reservation = Reservation(order_id, sku, quantity, item.unit_price * quantity, item.currency)
            existing = (
                await connection.execute(sa.select(_reservations).where(_reservations.c.order_id == order_id))
            ).one_or_none()
            if existing is not None:
                if existing.quantity == 0 and existing.sku == sku:
                    return None
                if existing.released:
                    raise Conflict("The goods of this order were put back: it reserves no more.")
                if (existing.sku, existing.quantity) != (sku, quantity):
                    raise Conflict("This order has reserved something else already.")
                return reservation
            taken = await connection.execute(
                sa.update(_stock)
                .where(_stock.c.sku == sku, _stock.c.available >= quantity)
                .values(available=_stock.c.available - quantity)
            )
            enough = taken.rowcount > 0
            kept = {"quantity": quantity, "released": False} if enough else {"quantity": 0, "released": True}
            await connection.execute(sa.insert(_reservations).values(order_id=order_id, sku=sku, **kept))
            return reservation if enough else None

    async def release(self, order_id: str) -> str | None:
        """Put an order's goods back; the reservation stays as a mark, and an order that had none gets one."""
        return await insert_or_find(partial(self._release, order_id))

    async def _release(self, order_id: str) -> str | None:
        mine = _reservations.c.order_id == order_id
        async with self._engine.begin() as connection:
            row = (await connection.execute(sa.select(_reservations).where(mine))).one_or_none()
            if row is None:
                await connection.execute(
                    sa.insert(_reservations).values(order_id=order_id, sku=None, quantity=0, released=True)
                )
                return None
            released = await connection.execute(
                sa.update(_reservations).where(mine, _reservations.c.released.is_(False)).values(released=True)
            )
            if released.rowcount == 0:
                return None
            await connection.execute(
                sa.update(_stock).where(_stock.c.sku == row.sku).values(available=_stock.c.available + row.quantity)
            )
            return str(row.sku)


async def _item(connection: AsyncConnection, sku: str, *, lock: bool = False) -> StockItem | None:
    query = sa.select(_stock).where(_stock.c.sku == sku)
    row = (await connection.execute(query.with_for_update() if lock else query)).mappings().one_or_none()
    return None if row is None else StockItem(**row)
