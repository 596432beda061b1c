"""Shipments in a SQL database."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import for_reading
from observability.events.event import Event
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from service.shipping.events import event_of
from service.shipping.shipping import Shipment

_shipments = sa.Table(
    "shipments",
    sa.MetaData(),
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("created_at", sa.BigInteger),
    sa.Column("sku", sa.String(64)),
    sa.Column("quantity", sa.BigInteger),
    sa.Column("refusal", sa.String(200)),
)


class SqlShipments:
    """`service.shipping.shipping.Store` on SQLAlchemy.

    Args:
        engine: The database of shipping.
        outbox: Has the events that shipping tells.
        inbox: Knows the events that it was told.
    """

    def __init__(self, engine: AsyncEngine, outbox: Outbox, inbox: Inbox) -> None:
        self._engine = engine
        self._reading = for_reading(engine)
        self._outbox = outbox
        self._inbox = inbox

    async def add(self, shipment: Shipment, event: Event) -> bool:
        """Keep a shipment, and the event that tells of it, to be delivered."""
        async with self._engine.begin() as connection:
            if not await self._inbox.accept(connection, event):
                return False
            await connection.execute(sa.insert(_shipments).values(**dataclasses.asdict(shipment)))
            await self._outbox.add(connection, event_of(shipment))
            return True

    async def get(self, order_id: str) -> Shipment | None:
        """An order's shipment, or None."""
        query = sa.select(_shipments).where(_shipments.c.order_id == order_id)
        async with self._reading.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else Shipment(**row)
