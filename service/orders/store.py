"""Orders in a SQL database."""

from __future__ import annotations

import dataclasses
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import for_reading, insert_or_find
from service.errors import PROBLEMS, InProgress, KeyReused, NotFound, ShopError
from service.orders.orders import Order

_metadata = sa.MetaData()
_orders = sa.Table(
    "orders",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("created_at", sa.BigInteger),
    sa.Column("sku", sa.String(64)),
    sa.Column("quantity", sa.BigInteger),
    sa.Column("amount", sa.BigInteger),
    sa.Column("currency", sa.String(3)),
)
_keys = sa.Table(
    "idempotency_keys",
    _metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.String(64)),
    sa.Column("order_id", sa.String(32)),
    sa.Column("leased_until", sa.BigInteger),
    sa.Column("done", sa.Boolean),
    sa.Column("refusal", sa.String(64)),
    sa.Column("detail", sa.String(500)),
)
_REFUSALS = {kind.__name__: kind for kind in PROBLEMS}


class SqlStore:
    """`service.orders.orders.Store` on SQLAlchemy."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = for_reading(engine)

    async def claim(self, key: str, fingerprint: str, order_id: str, *, now: int, lease_s: int) -> str | Order:
        """Begin the work of an Idempotency-Key."""
        return await insert_or_find(partial(self._claim, key, fingerprint, order_id, now=now, lease_s=lease_s))

    async def _claim(self, key: str, fingerprint: str, order_id: str, *, now: int, lease_s: int) -> str | Order:
        lease = now + lease_s * 1_000_000
        async with self._engine.begin() as connection:
            row = (await connection.execute(sa.select(_keys).where(_keys.c.key == key))).one_or_none()
            if row is None:
                await connection.execute(
                    sa.insert(_keys).values(
                        key=key, request_hash=fingerprint, order_id=order_id, leased_until=lease, done=False
                    )
                )
                return order_id
            if row.request_hash != fingerprint:
                raise KeyReused("This Idempotency-Key was used for another request; choose a new one.")
            if row.refusal is not None:
                raise _REFUSALS[row.refusal](row.detail)
            if row.done:
                found = (await connection.execute(sa.select(_orders).where(_orders.c.id == row.order_id))).mappings()
                return Order(**found.one())
            if row.leased_until > now:
                raise InProgress("The first request with this Idempotency-Key is being worked on; ask again.")
            taken = await connection.execute(
                sa.update(_keys)
                .where(_keys.c.key == key, _keys.c.leased_until == row.leased_until, _keys.c.done.is_(False))
                .values(leased_until=lease)
            )
            if taken.rowcount == 0:  # another one was quicker
                raise InProgress("A request with this Idempotency-Key is being worked on; ask again.")
            return str(row.order_id)

    async def add(self, order: Order, key: str | None) -> Order:
        """Keep an order and, in the same transaction, end its key's work."""
        async with self._engine.begin() as connection:
            if key is not None:
                await connection.execute(sa.update(_keys).where(_keys.c.key == key).values(done=True))
                found = await connection.execute(sa.select(_orders).where(_orders.c.id == order.id))
                if (row := found.mappings().one_or_none()) is not None:
                    return Order(**row)
            await connection.execute(sa.insert(_orders).values(**dataclasses.asdict(order)))
            return order

    async def refuse(self, key: str, refusal: ShopError) -> None:
        """End a key's work with a refusal, to be given again."""
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(_keys)
                .where(_keys.c.key == key, _keys.c.done.is_(False))  # an order that another one has placed stays
                .values(done=True, refusal=type(refusal).__name__, detail=str(refusal))
            )

    async def unclaim(self, key: str) -> None:
        """Let the next request with the key take the work over at once."""
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(_keys).where(_keys.c.key == key, _keys.c.done.is_(False)).values(leased_until=0)
            )

    async def get(self, order_id: str) -> Order:
        """An order."""
        async with self._reading.connect() as connection:
            found = await connection.execute(sa.select(_orders).where(_orders.c.id == order_id))
            row = found.mappings().one_or_none()
        if row is None:
            raise NotFound("No order is known by this id.")
        return Order(**row)

    async def page(self, limit: int, after: str | None) -> list[Order]:
        """Orders from the newest to the oldest, those after the order named `after` only."""
        query = sa.select(_orders).order_by(_orders.c.created_at.desc(), _orders.c.id.desc()).limit(limit)
        async with self._reading.connect() as connection:
            if after is not None:
                last = (
                    await connection.execute(sa.select(_orders.c.created_at).where(_orders.c.id == after))
                ).scalar_one_or_none()
                if last is None:
                    raise NotFound("No order is known by the id in `after`.")
                query = query.where(
                    sa.or_(_orders.c.created_at < last, sa.and_(_orders.c.created_at == last, _orders.c.id < after))
                )
            return [Order(**row) for row in (await connection.execute(query)).mappings()]
