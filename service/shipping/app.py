"""Shipping, wired."""

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
from service.errors import install_error_handlers
from service.events import CONSUMERS
from service.settings import EventSettings
from service.shipping.events import handlers
from service.shipping.routes import router
from service.shipping.shipping import Shipping
from service.shipping.store import SqlShipments


def create_app(
    settings: EventSettings | None = None,
    *,
    telemetry: Telemetry | None = None,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
) -> FastAPI:
    """Make the service.

    Args:
        settings: By default read from the environment.
        telemetry: By default made from the environment.
        transports: In the place of the network: how to reach `orders`.
    """
    settings = settings if settings is not None else EventSettings()
    telemetry = telemetry if telemetry is not None else Telemetry.from_environment("shipping")
    engine = create_engine(settings.database("shipping"), "shipping")
    instrument_engine(engine, telemetry)
    health = Health()
    health.register("database", partial(check, engine))
    outbox, inbox = Outbox(engine, "shipping", telemetry), Inbox(engine, "shipping", telemetry)
    health.register("outbox", partial(check_backlog, outbox), only_warns=True)
    events_way = settings.broker_url or Routes(
        {"orders": settings.orders_url}, CONSUMERS, settings.events_token, transports or {}
    )

    shipping = Shipping(SqlShipments(engine, outbox, inbox))
    consumer = Consumer("shipping", handlers(shipping), telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)  # last to go: events in flight still write
            await migrate(engine, "shipping", Path(__file__).with_name("migrations"))
            await stack.enter_async_context(exchange(outbox, inbox, consumer, telemetry, events_way))
            yield

    app = FastAPI(title="shipping", lifespan=lifespan)
    app.state.shipping, app.state.outbox = shipping, outbox
    app.include_router(router)
    install_error_handlers(app)
    observe(
        app,
        telemetry,
        inbound_context=settings.inbound_context,
        health=health,
        faults=settings.faults,
        events=EventIntake(consumer, settings.events_token),
    )
    return app
