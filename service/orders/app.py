"""Orders, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
from fastapi import FastAPI

from observability import Health, Telemetry, instrument_engine, observe
from observability.database import check, create_engine, migrate
from observability.events.backlog import check_backlog
from observability.events.consumer import Consumer
from observability.events.endpoint import EventIntake
from observability.events.exchange import Routes, exchange
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from observability.resilience.client import create_client
from service.errors import install_error_handlers
from service.events import CONSUMERS
from service.orders import clients
from service.orders.clients import HttpExternal, HttpInventory, HttpPayments
from service.orders.events import handlers
from service.orders.orders import Orders
from service.orders.routes import router
from service.orders.store import SqlStore
from service.orders.sweep import Sweep
from service.orders.telemetry import OrderMetrics
from service.settings import OrdersSettings

REQUEST_TIMEOUT_S = 20.0
"""More than an order's calls and its database may take together, and less than its lease."""

MAX_REQUESTS = 128
"""Requests at once: more than that would wait longer for the database and for each other than their calls may take."""


def create_app(
    settings: OrdersSettings | None = None,
    *,
    telemetry: Telemetry | None = None,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
) -> FastAPI:
    """Make the service.

    Args:
        settings: By default read from the environment.
        telemetry: By default made from the environment.
        transports: In the place of the network: how to reach `inventory`, `payments`, `shipping`, `orders` itself and
            `external`.
    """
    settings = settings if settings is not None else OrdersSettings()
    telemetry = telemetry if telemetry is not None else Telemetry.from_environment("orders")
    transports = transports if transports is not None else {}
    engine = create_engine(settings.database("orders"), "orders")
    instrument_engine(engine, telemetry)
    health = Health()
    health.register("database", partial(check, engine))
    outbox, inbox = Outbox(engine, "orders", telemetry), Inbox(engine, "orders", telemetry)
    health.register("outbox", partial(check_backlog, outbox), only_warns=True)
    events_way = settings.broker_url or Routes(
        {"shipping": settings.shipping_url, "orders": settings.orders_url}, CONSUMERS, settings.events_token, transports
    )
    external_url = str(settings.external_service_url or settings.inventory_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)  # last to go: requests in flight still write
            await migrate(engine, "orders", Path(__file__).with_name("migrations"))
            shared = None
            if settings.redis_url is not None:
                from observability.resilience.shared import SharedBreakers  # noqa: PLC0415 - redis-py is slow to import

                shared = await stack.enter_async_context(SharedBreakers(str(settings.redis_url)))
            inventory, payments, external = [
                await stack.enter_async_context(
                    create_client(dependency, telemetry, transports.get(dependency.name), shared)
                )
                for dependency in (
                    clients.inventory(settings.inventory_url),
                    clients.payments(settings.payments_url),
                    clients.external(),
                )
            ]
            store = SqlStore(engine, outbox, inbox)
            app.state.orders = Orders(store, HttpInventory(inventory), HttpPayments(payments))
            app.state.outbox = outbox
            app.state.external = HttpExternal(external, external_url)
            app.state.metrics = OrderMetrics(telemetry.meter_provider.get_meter("service.orders"))
            await stack.enter_async_context(exchange(outbox, inbox, consumer, telemetry, events_way))
            await stack.enter_async_context(Sweep(store).running())
            yield

    app = FastAPI(title="orders", lifespan=lifespan)
    consumer = Consumer("orders", handlers(lambda: app.state.orders), telemetry)
    app.include_router(router)
    install_error_handlers(app)
    observe(
        app,
        telemetry,
        inbound_context=settings.inbound_context,
        health=health,
        max_requests=MAX_REQUESTS,
        request_timeout_s=REQUEST_TIMEOUT_S,
        events=EventIntake(consumer, settings.events_token),
    )
    return app
