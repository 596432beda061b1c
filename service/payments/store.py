"""The ledger in a SQL database."""

from __future__ import annotations

import dataclasses
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from observability.database import for_reading, insert_or_find
from service.errors import Conflict
from service.payments.payments import Payment

_payments = sa.Table(
    "payments",
    sa.MetaData(),
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("amount", sa.BigInteger),
    sa.Column("currency", sa.String(3)),
    sa.Column("card_last4", sa.String(4)),
    sa.Column("approved", sa.Boolean),
    sa.Column("refunded", sa.Boolean),
)


class SqlLedger:
    """`service.payments.payments.Ledger` on SQLAlchemy."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = for_reading(engine)

    async def add(self, payment: Payment) -> Payment:
        """Keep a payment, or return the one that the order has already."""
        return await insert_or_find(partial(self._add, payment))

    async def _add(self, payment: Payment) -> Payment:
        async with self._engine.begin() as connection:
            existing = await _find(connection, payment.order_id)
            if existing is not None:
                if existing.refunded:
                    raise Conflict("This order was refunded: it is charged no more.")
                if existing != payment:
                    raise Conflict("This order was charged with another amount or card already.")
                return existing
            await connection.execute(sa.insert(_payments).values(**dataclasses.asdict(payment)))
            return payment

    async def refund(self, order_id: str) -> Payment:
        """Mark an order's payment as refunded, unless it was declined; for one that has none keep `Payment.never`."""
        return await insert_or_find(partial(self._refund, order_id))

    async def _refund(self, order_id: str) -> Payment:
        async with self._engine.begin() as connection:
            existing = await _find(connection, order_id)
            if existing is None:
                never = Payment.never(order_id)
                await connection.execute(sa.insert(_payments).values(**dataclasses.asdict(never)))
                return never
            if not existing.approved or existing.refunded:
                return existing
            await connection.execute(sa.update(_payments).where(_payments.c.order_id == order_id).values(refunded=True))
            return dataclasses.replace(existing, refunded=True)

    async def get(self, order_id: str) -> Payment | None:
        """An order's payment, or None."""
        async with self._reading.connect() as connection:
            return await _find(connection, order_id)


async def _find(connection: AsyncConnection, order_id: str) -> Payment | None:
    query = sa.select(_payments).where(_payments.c.order_id == order_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else Payment(**row)
