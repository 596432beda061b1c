"""Orders in a SQL database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from observability.database import for_reading, insert_or_find
from observability.events.event import Event, in_trace, trace_context
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from service.errors import PROBLEMS, Conflict, InProgress, KeyReused, NotFound, ShopError
from service.orders.events import event_of
from service.orders.order import Change, Order, State

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
    sa.Column("state", sa.String(16)),
    sa.Column("history", sa.Text),
    sa.Column("leased_until", sa.BigInteger),
    sa.Column("traceparent", sa.String(55)),
    sa.Column("tracestate", sa.String(512)),
    sa.Column("refusal", sa.String(64)),
    sa.Column("detail", sa.String(500)),
)
_keys = sa.Table(
    "idempotency_keys",
    _metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.String(64)),
    sa.Column("order_id", sa.String(32)),
)
_REFUSALS = {kind.__name__: kind for kind in PROBLEMS}
_history = TypeAdapter(tuple[Change, ...])

_GIVEN_UP = "The first request with this Idempotency-Key took too long, and its order was given up; choose a new key."


class SqlStore:
    """`service.orders.orders.Store` on SQLAlchemy.

    Args:
        engine: The database of orders.
        outbox: Has the events that orders tells.
        inbox: Knows the events that it was told.
    """

    def __init__(self, engine: AsyncEngine, outbox: Outbox, inbox: Inbox) -> None:
        self._engine = engine
        self._reading = for_reading(engine)
        self._outbox = outbox
        self._inbox = inbox

    async def begin(self, order: Order, fingerprint: str, key: str | None, *, lease_s: int) -> Order:
        """Begin the work on an order, for as long as its lease lasts."""
        return await insert_or_find(partial(self._begin, order, fingerprint, key, lease_s))

    async def _begin(self, order: Order, fingerprint: str, key: str | None, lease_s: int) -> Order:
        now = order.created_at
        lease = {"leased_until": now + lease_s * 1_000_000, "traceparent": None, "tracestate": None, **trace_context()}
        async with self._engine.begin() as connection:
            if key is not None:
                query = sa.select(_orders, _keys.c.request_hash).join(_keys, _keys.c.order_id == _orders.c.id)
                found = (await connection.execute(query.where(_keys.c.key == key))).mappings().one_or_none()
                if found is not None:
                    return await _go_on(connection, found, fingerprint, now, lease)
                await connection.execute(sa.insert(_keys).values(key=key, request_hash=fingerprint, order_id=order.id))
            values = {"id": order.id, "created_at": now, "sku": order.sku, "quantity": order.quantity}
            await connection.execute(sa.insert(_orders).values(**values, **_present(order), **lease))
            return order

    async def end_lease(self, order_id: str, now: int) -> None:
        """Let the next request with the order's key take over at once, if it is pending."""
        async with self._engine.begin() as connection:
            await connection.execute(_pending(order_id).values(leased_until=now))

    async def advance(self, order: Order, refusal: ShopError | None = None) -> bool:
        """Keep an order in the state that it has come into."""
        refused = {} if refusal is None else {"refusal": type(refusal).__name__, "detail": str(refusal)}
        async with self._engine.begin() as connection:
            return await self._change(connection, order, **refused)

    async def apply(self, event: Event, order_id: str, state: State, *, at: int, reason: str | None = None) -> bool:
        """Bring an order into the state that an event has for it."""
        async with self._engine.begin() as connection:
            if not await self._inbox.accept(connection, event):
                return False
            order = await _find(connection, order_id)
            return order.may_become(state) and await self._change(connection, order.to(state, at, reason))

    async def abandon_expired(self, before: int, *, at: int, limit: int) -> list[str]:
        """Abandon pending orders whose lease ended before a time, each in the trace of its own request."""
        expired = (
            sa.select(_orders)
            .where(_orders.c.state == "pending", _orders.c.leased_until < before)
            .order_by(_orders.c.leased_until)
            .limit(limit)
        )
        with suppress_instrumentation():  # a look every few seconds is no trace
            async with self._reading.connect() as connection:
                rows = (await connection.execute(expired)).mappings().all()
        abandoned = []
        for row in rows:
            order = _order(row).to("abandoned", at, "Its outcome was not known in time.")
            with in_trace(row["traceparent"], row["tracestate"]):
                async with self._engine.begin() as connection:
                    # Only as it was found: another sweep, or a request with its key, may have been quicker.
                    if await self._change(connection, order, _orders.c.leased_until == row["leased_until"]):
                        abandoned.append(order.id)
        return abandoned

    async def get(self, order_id: str) -> Order:
        """An order."""
        async with self._reading.connect() as connection:
            return await _find(connection, order_id)

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
            return [_order(row) for row in (await connection.execute(query)).mappings()]

    async def _change(
        self, connection: AsyncConnection, order: Order, *conditions: sa.ColumnElement[bool], **more: object
    ) -> bool:
        """Write an order's new state and what is told of it; nothing, if it has left the state before already."""
        before = order.history[-2].state
        changed = await connection.execute(
            sa.update(_orders)
            .where(_orders.c.id == order.id, _orders.c.state == before, *conditions)
            .values(**_present(order), **more)
        )
        if changed.rowcount == 0:
            return False
        if (event := event_of(order)) is not None:
            await self._outbox.add(connection, event)
        return True


async def _go_on(
    connection: AsyncConnection, found: Mapping[Any, Any], fingerprint: str, now: int, lease: dict[str, Any]
) -> Order:
    """What a request with a known key gets: the first one's answer, or its order to go on with."""
    order = _order(found)
    if found["request_hash"] != fingerprint:
        raise KeyReused("This Idempotency-Key was used for another request; choose a new one.")
    if found["refusal"] is not None:
        raise _REFUSALS[found["refusal"]](found["detail"])
    if order.was_placed:
        return order
    if order.state != "pending":
        raise Conflict(_GIVEN_UP)
    if found["leased_until"] > now:
        raise InProgress("The first request with this Idempotency-Key is being worked on; ask again.")
    taken = await connection.execute(
        _pending(order.id).where(_orders.c.leased_until == found["leased_until"]).values(**lease)
    )
    if taken.rowcount == 0:  # another one was quicker
        raise InProgress("A request with this Idempotency-Key is being worked on; ask again.")
    return order


async def _find(connection: AsyncConnection, order_id: str) -> Order:
    found = await connection.execute(sa.select(_orders).where(_orders.c.id == order_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("No order is known by this id.")
    return _order(row)


def _pending(order_id: str) -> sa.Update:
    return sa.update(_orders).where(_orders.c.id == order_id, _orders.c.state == "pending")


def _present(order: Order) -> dict[str, object]:
    """The columns that change with an order's state."""
    return {
        "state": order.state,
        "amount": order.amount,
        "currency": order.currency,
        "history": _history.dump_json(order.history, exclude_none=True).decode(),
    }


def _order(row: Mapping[Any, Any]) -> Order:
    columns = {name: row[name] for name in ("id", "created_at", "sku", "quantity", "amount", "currency", "state")}
    return Order(**columns, history=_history.validate_json(row["history"]))
