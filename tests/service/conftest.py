"""The whole shop in one process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.utils import suppress_instrumentation

import service
from observability.database import create_engine, database_url, migrate
from observability.events.outbox import Outbox
from observability.testing import Recorder, client_for, running, transport_for
from service.inventory.app import create_app as create_inventory
from service.orders.app import create_app as create_orders
from service.orders.order import NEXT, Order
from service.payments.app import create_app as create_payments
from service.settings import EventSettings, OrdersSettings, ServiceSettings
from service.shipping.app import create_app as create_shipping
from tests.nats_server import NatsServer

TOKEN = "token"


class Gate(httpx.AsyncBaseTransport):
    """Lets requests through while an event is set."""

    def __init__(self, transport: httpx.AsyncBaseTransport, opened: asyncio.Event) -> None:
        self._transport = transport
        self._opened = opened

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._opened.wait()
        return await self._transport.handle_async_request(request)


@dataclass
class Shop:
    """The running services, a client for each, and what they told."""

    apps: dict[str, FastAPI]
    orders: httpx.AsyncClient
    inventory: httpx.AsyncClient
    payments: httpx.AsyncClient
    shipping: httpx.AsyncClient
    recorder: Recorder
    folder: Path
    deliveries: asyncio.Event
    """While it is not set, events that are delivered are under way and do not arrive."""

    async def settled(self, order_id: str) -> Order:
        """The order once its life is over and all that was told of it is delivered; looking leaves no telemetry."""
        with suppress_instrumentation():
            async with asyncio.timeout(20):
                while True:
                    order: Order = await self.apps["orders"].state.orders.get(order_id)
                    if not NEXT[order.state]:
                        break
                    await asyncio.sleep(0.01)
        await self.delivered()
        return order

    async def delivered(self) -> None:
        """Return when no event waits any more."""
        outboxes: list[Outbox] = [self.apps[name].state.outbox for name in ("orders", "shipping")]
        async with asyncio.timeout(20):
            while sum([(await outbox.backlog()).pending for outbox in outboxes]):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)


EMBEDDED, SERVERS = "SQLite and HTTP", "PostgreSQL and NATS"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite files as the services' first start leaves them, since making them takes longer than most tests."""
    folder = tmp_path_factory.mktemp("migrated")

    async def migrate_all() -> None:
        for name in ("orders", "inventory", "payments", "shipping"):
            engine = create_engine(database_url(name, folder, None))
            await migrate(engine, name, Path(service.__path__[0]) / name / "migrations")
            await engine.dispose()

    asyncio.run(migrate_all())
    return folder


@pytest.fixture
async def shop(
    request: pytest.FixtureRequest, recorder: Recorder, tmp_path: Path, migrated: Path
) -> AsyncIterator[Shop]:
    """Orders, inventory, payments and shipping, calling each other without a network.

    They run on SQLite files, with their events over HTTP, or on the servers of a test that says so.
    """
    if getattr(request, "param", EMBEDDED) == EMBEDDED:
        shutil.copytree(migrated, tmp_path, dirs_exist_ok=True)
        async with running_shop(recorder, tmp_path) as shop:
            yield shop
        return
    nats = NatsServer(tmp_path / "nats")
    nats.start()
    try:
        async with running_shop(recorder, tmp_path, request.getfixturevalue("postgres_url"), nats.url) as shop:
            yield shop
    finally:
        nats.kill()


@asynccontextmanager
async def running_shop(
    recorder: Recorder, tmp_path: Path, database_url: str | None = None, broker_url: str | None = None
) -> AsyncIterator[Shop]:
    """The shop, on SQLite or PostgreSQL, with its events over HTTP or through a broker."""
    common = ServiceSettings(data_dir=tmp_path, database_url=database_url, faults=True)
    inventory = create_inventory(common, telemetry=recorder.telemetry("inventory"))
    payments = create_payments(common, telemetry=recorder.telemetry("payments"))
    transports = {
        "inventory": transport_for(inventory),
        "payments": transport_for(payments),
        "external": transport_for(inventory),
    }
    orders = create_orders(
        OrdersSettings(data_dir=tmp_path, database_url=database_url, broker_url=broker_url, events_token=TOKEN),
        telemetry=recorder.telemetry("orders"),
        transports=transports,
    )
    shipping = create_shipping(
        EventSettings(
            data_dir=tmp_path, database_url=database_url, faults=True, broker_url=broker_url, events_token=TOKEN
        ),
        telemetry=recorder.telemetry("shipping"),
        transports=transports,
    )
    deliveries = asyncio.Event()
    deliveries.set()
    transports |= {
        name: Gate(transport_for(app), deliveries) for name, app in (("orders", orders), ("shipping", shipping))
    }
    apps = {"orders": orders, "inventory": inventory, "payments": payments, "shipping": shipping}
    async with AsyncExitStack() as stack:
        for app in reversed(apps.values()):
            await stack.enter_async_context(running(app))
        clients = {
            name: await stack.enter_async_context(client_for(app, f"http://{name}")) for name, app in apps.items()
        }
        shop = Shop(apps, recorder=recorder, folder=tmp_path, deliveries=deliveries, **clients)
        yield shop
        await shop.delivered()  # a server would let requests end before their application does; here there is none
