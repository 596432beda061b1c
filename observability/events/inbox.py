"""The inbox: which events have been applied, kept in the transaction of their effects, so that each has them once.

The table, in a migration of the service's own:

    op.create_table(
        "shipping_inbox",
        sa.Column("source", sa.String(255), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("applied_at", sa.BigInteger, nullable=False, index=True),
    )
"""

from __future__ import annotations

from time import time

import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from observability.events.event import Event
from observability.events.transaction import connection_of, on_commit
from observability.providers import Telemetry
from observability.telemetry import INBOX_EVENTS, INBOX_OUTCOME

RETENTION_S = 7 * 24 * 3600.0
"""How long an applied event is remembered, in seconds: longer than any outbox or stream keeps it to send it again."""


class Inbox:
    """The events that one service has applied.

    Args:
        engine: The service's database.
        service_name: Names the table: `shipping` has `shipping_inbox`.
        telemetry: Counts what was applied and what came again (`clearspan.inbox.events`).
    """

    def __init__(self, engine: AsyncEngine, service_name: str, telemetry: Telemetry) -> None:
        self._engine = engine
        self._table = inbox_table(service_name)
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._insert = insert(self._table).on_conflict_do_nothing()
        self._events = telemetry.meter_provider.get_meter("observability.events").create_counter(*INBOX_EVENTS)

    async def accept(self, transaction: AsyncConnection | AsyncSession, event: Event) -> bool:
        """Take note of an event in the transaction of its effect, before the effect.

        Two deliveries of one event at the same time wait for each other here.

        Returns:
            Whether it is new. If not, the transaction has nothing to do, and the event is answered as applied.
        """
        connection = await connection_of(transaction)
        row = {"source": event.source, "id": event.id, "applied_at": int(time() * 1_000_000)}
        if (await connection.execute(self._insert, row)).rowcount:
            on_commit(connection, lambda: self._events.add(1, {INBOX_OUTCOME: "applied"}))
            return True
        self._events.add(1, {INBOX_OUTCOME: "duplicate"})
        trace.get_current_span().set_attribute(INBOX_OUTCOME, "duplicate")
        return False

    async def prune(self, limit: int, *, retention_s: float = RETENTION_S) -> int:
        """Forget events, so many at most, that were applied longer ago than any of them can come again.

        Returns:
            How many they were; `limit` if there may be more.
        """
        table = self._table
        old = (
            sa.select(table.c.source, table.c.id)
            .where(table.c.applied_at < int((time() - retention_s) * 1_000_000))
            .limit(limit)
        )
        with suppress_instrumentation():
            async with self._engine.begin() as connection:
                return (
                    await connection.execute(sa.delete(table).where(sa.tuple_(table.c.source, table.c.id).in_(old)))
                ).rowcount


def inbox_table(service_name: str) -> sa.Table:
    """The table of a service's inbox, as its migrations have made it."""
    return sa.Table(
        f"{service_name}_inbox",
        sa.MetaData(),
        sa.Column("source", sa.String(255), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("applied_at", sa.BigInteger, nullable=False, index=True),
    )
