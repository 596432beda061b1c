"""Databases of the version before, brought up to date with what is in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import service
from observability import Telemetry
from observability.database import create_engine, migrate
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from service.errors import Conflict, KeyReused, OutOfStock
from service.inventory.inventory import Reservation
from service.inventory.store import SqlStock
from service.orders.order import Change, Order
from service.orders.store import SqlStore
from service.payments.payments import Payment
from service.payments.store import SqlLedger

pytestmark = pytest.mark.anyio

MigrateTo = Callable[..., Awaitable[None]]
SERVICES = Path(service.__file__).parent


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An empty database of each kind."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def migrate_to(engine: AsyncEngine, tmp_path: Path) -> MigrateTo:
    """Brings a service's schema up to one revision, or all the way."""

    async def to(name: str, revision: str = "") -> None:
        migrations = SERVICES / name / "migrations"
        if revision:
            folder = tmp_path / name / "migrations"
            folder.mkdir(parents=True)
            for path in migrations.glob("*.py"):
                if path.name[:4] <= revision:
                    (folder / path.name).write_text(path.read_text())
            migrations = folder
        await migrate(engine, name, migrations)

    return to


async def _insert(engine: AsyncEngine, table: str, *rows: dict[str, object]) -> None:
    async with engine.begin() as connection:
        for row in rows:
            columns = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            await connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)  # noqa: S608 - ours


async def test_orders(engine: AsyncEngine, migrate_to: MigrateTo) -> None:
    """Orders become confirmed, keys answer as before, and what was not finished is abandoned and told of."""
    await migrate_to("orders", "0001")
    await _insert(
        engine,
        "orders",
        {"id": "order-1", "created_at": 5, "sku": "mug", "quantity": 2, "amount": 2500, "currency": "EUR"},
        {"id": "order-2", "created_at": 6, "sku": "mug", "quantity": 1, "amount": 1250, "currency": "EUR"},
    )
    key = {"request_hash": "hash", "leased_until": 0, "done": True, "refusal": None, "detail": None}
    await _insert(
        engine,
        "idempotency_keys",
        {**key, "key": "placed", "order_id": "order-1"},
        {**key, "key": "refused", "order_id": "order-3", "refusal": "OutOfStock", "detail": "Fewer are left."},
        {**key, "key": "unfinished", "order_id": "order-4", "done": False},
    )
    await migrate_to("orders")
    telemetry = Telemetry.build("orders")
    outbox = Outbox(engine, "orders", telemetry)
    store = SqlStore(engine, outbox, Inbox(engine, "orders", telemetry))
    confirmed = Order("order-1", 5, "mug", 2, 2500, "EUR", "confirmed", (Change("confirmed", 5),))
    assert await store.get("order-1") == confirmed
    states = {order.id: (order.state, order.amount) for order in await store.page(9, None)}
    assert states == {
        "order-1": ("confirmed", 2500),
        "order-2": ("confirmed", 1250),
        "order-3": ("refused", None),
        "order-4": ("abandoned", None),
    }
    again = Order.new("order-9", "mug", 2, at=9)
    assert await store.begin(again, "hash", "placed", lease_s=30) == confirmed
    with pytest.raises(KeyReused):
        await store.begin(again, "other", "placed", lease_s=30)
    with pytest.raises(OutOfStock, match=r"Fewer are left\."):
        await store.begin(again, "hash", "refused", lease_s=30)
    with pytest.raises(Conflict, match="given up"):
        await store.begin(again, "hash", "unfinished", lease_s=30)
    (told,) = [stored.event for stored in await outbox.unsent(9)]
    assert (told.type, told.source, told.subject) == ("order.abandoned", "/orders", "order-4")
    assert json.loads(told.data) == {"reason": "Its request was not finished."}
    assert [claimed.event for claimed in await outbox.claim("relay", 9, lease_s=30)] == [told]


async def test_payments(engine: AsyncEngine, migrate_to: MigrateTo) -> None:
    """Payments have not been refunded, and can be."""
    await migrate_to("payments", "0001")
    row = {"order_id": "order-1", "amount": 2500, "currency": "EUR", "card_last4": "4242", "approved": True}
    await _insert(engine, "payments", row)
    await migrate_to("payments")
    ledger = SqlLedger(engine)
    payment = Payment("order-1", 2500, "EUR", "4242", approved=True)
    assert await ledger.add(payment) == payment
    assert (await ledger.refund("order-1")).refunded


async def test_inventory(engine: AsyncEngine, migrate_to: MigrateTo) -> None:
    """Reservations have not been released, and can be; there are anvils."""
    await migrate_to("inventory", "0001")
    await _insert(engine, "reservations", {"order_id": "order-1", "sku": "kettle", "quantity": 2})
    await migrate_to("inventory")
    stock = SqlStock(engine)
    assert await stock.reserve("order-1", "kettle", 2) == Reservation("order-1", "kettle", 2, 17800, "EUR")
    assert await stock.release("order-1") == "kettle"
    assert [item.sku for item in await stock.items()] == ["anvil", "kettle", "mug", "teapot"]
