"""The books of the shop: what its databases say of orders, goods, money and shipments, and whether that fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import create_engine, database_url

_UNSHIPPABLE = "anvil"
FINAL = frozenset({"confirmed", "cancelled", "refused"})
SERVICES = ("orders", "inventory", "payments", "shipping")


@dataclass(frozen=True, slots=True)
class OrderEntry:
    """An order: what was ordered, its state, its trace, and when it began and came into its state (microseconds)."""

    sku: str
    state: str
    trace_id: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Books:
    """What is written down; all by the order's id.

    Attributes:
        orders: Every order.
        reserved: Goods that are set aside, as their sku and their number.
        paid: What was charged and not given back.
        shipped: Orders that have a shipment.
        missing: By sku, how many are gone from the shelf since it was filled.
        unsent: By service, events that wait or are dead.
    """

    orders: Mapping[str, OrderEntry]
    reserved: Mapping[str, tuple[str, int]]
    paid: frozenset[str]
    shipped: frozenset[str]
    missing: Mapping[str, int]
    unsent: Mapping[str, int]

    @property
    def settled(self) -> bool:
        """Whether nothing is under way any more."""
        return not any(self.unsent.values()) and all(one.state in FINAL for one in self.orders.values())

    def errors(self, accepted: frozenset[str]) -> Iterator[str]:
        """Each thing that does not fit.

        Args:
            accepted: The orders that customers were told of.
        """
        confirmed = frozenset(order_id for order_id, one in self.orders.items() if one.state == "confirmed")
        if lost := accepted - self.orders.keys():
            yield f"{len(lost)} accepted orders are lost"
        if open_ := [order_id for order_id, one in self.orders.items() if one.state not in FINAL]:
            yield f"{len(open_)} orders are in no final state, such as {open_[0]}"
        refused = frozenset(order_id for order_id, one in self.orders.items() if one.state == "refused")
        if accepted & refused:
            yield f"{len(accepted & refused)} accepted orders were refused"
        cancelled = [key for key in accepted & self.orders.keys() if self.orders[key].state == "cancelled"]
        if wrongly := [order_id for order_id in cancelled if self.orders[order_id].sku != _UNSHIPPABLE]:
            yield f"{len(wrongly)} accepted orders were cancelled though they can be shipped, such as {wrongly[0]}"
        for name, found in (("paid", self.paid), ("reserved", frozenset(self.reserved)), ("shipped", self.shipped)):
            if found != confirmed:
                yield f"{len(confirmed - found)} confirmed orders are not {name}, {len(found - confirmed)} others are"
        held: dict[str, int] = {}
        for sku, quantity in self.reserved.values():
            held[sku] = held.get(sku, 0) + quantity
        gone = {sku: count for sku, count in self.missing.items() if count}
        if held != gone:
            yield f"goods are set aside: {held}; gone from the shelf: {gone}"
        for service, count in self.unsent.items():
            if count:
                yield f"{count} events of {service} were not delivered"


class Bookkeeper:
    """Reads the shop's databases, beside its services.

    Args:
        folder: Of the SQLite files.
        url: The database of all services, if there is one.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self._urls = {name: database_url(name, folder, url) for name in SERVICES}
        self._filled: dict[str, int] = {}

    async def begin(self) -> None:
        """Take note of how full the shelf is; before the first order."""
        self._filled = {row.sku: row.available for row in (await self._read())["stock"]}

    async def books(self) -> Books:
        """What is written down now."""
        read = await self._read()
        return Books(
            orders={
                row.id: OrderEntry(
                    sku=row.sku,
                    state=row.state,
                    trace_id=(row.traceparent or "-").split("-")[1],
                    began=row.created_at,
                    ended=json.loads(row.history)[-1]["at"],
                )
                for row in read["orders"]
            },
            reserved={row.order_id: (row.sku, row.quantity) for row in read["reservations"]},
            paid=frozenset(row.order_id for row in read["payments"]),
            shipped=frozenset(row.order_id for row in read["shipments"]),
            missing={row.sku: self._filled[row.sku] - row.available for row in read["stock"]},
            unsent={"orders": len(read["orders_outbox"]), "shipping": len(read["shipping_outbox"])},
        )

    async def _read(self) -> dict[str, list[sa.Row[Any]]]:
        queries = {
            "orders": ("orders", "SELECT id, sku, state, traceparent, created_at, history FROM orders"),
            "orders_outbox": ("orders", "SELECT id FROM orders_outbox WHERE sent_at IS NULL"),
            "stock": ("inventory", "SELECT sku, available FROM stock"),
            "reservations": ("inventory", "SELECT order_id, sku, quantity FROM reservations WHERE NOT released"),
            "payments": ("payments", "SELECT order_id FROM payments WHERE approved AND NOT refunded"),
            "shipments": ("shipping", "SELECT order_id FROM shipments WHERE refusal IS NULL"),
            "shipping_outbox": ("shipping", "SELECT id FROM shipping_outbox WHERE sent_at IS NULL"),
        }
        async with AsyncExitStack() as stack:
            engines: dict[str, AsyncEngine] = {}
            for name, url in self._urls.items():
                engines[name] = create_engine(url, "drill")
                stack.push_async_callback(engines[name].dispose)
            found = {}
            for name, (service, query) in queries.items():
                async with engines[service].connect() as connection:
                    found[name] = list(await connection.execute(sa.text(query)))
        return found
