"""Inventory, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from pydantic import TypeAdapter

from observability import Health, Telemetry, instrument_engine, observe
from observability.cache import Cache, open_store
from observability.database import check, create_engine, migrate
from service.errors import install_error_handlers
from service.inventory.inventory import STOCK_TTL_S, Inventory, StockItem
from service.inventory.routes import router
from service.inventory.store import SqlStock
from service.settings import ServiceSettings

STOCK_MAX_STALE_S = 300.0
"""How much older it may be while the database does not answer, in seconds."""


def create_app(settings: ServiceSettings | None = None, *, telemetry: Telemetry | None = None) -> FastAPI:
    """Make the service.

    Args:
        settings: By default read from the environment.
        telemetry: By default made from the environment.
    """
    settings = settings if settings is not None else ServiceSettings()
    telemetry = telemetry if telemetry is not None else Telemetry.from_environment("inventory")
    engine = create_engine(settings.database("inventory"), "inventory")
    instrument_engine(engine, telemetry)
    health = Health()
    health.register("database", partial(check, engine))
    # No health check: without Redis each replica goes on with its own memory.
    store = open_store(settings.cache, telemetry)
    of_stock = TypeAdapter[StockItem | None](StockItem | None)
    cache = Cache[StockItem | None](
        "stock",
        store,
        telemetry,
        ttl_s=STOCK_TTL_S,
        max_stale_s=STOCK_MAX_STALE_S,
        encode=of_stock.dump_json,
        decode=of_stock.validate_json,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await migrate(engine, "inventory", Path(__file__).with_name("migrations"))
            app.state.inventory = Inventory(SqlStock(engine), cache)
            yield
        finally:
            await cache.aclose()
            await store.aclose()
            await engine.dispose()

    app = FastAPI(title="inventory", lifespan=lifespan)
    app.include_router(router)
    install_error_handlers(app)
    observe(app, telemetry, inbound_context=settings.inbound_context, health=health, faults=settings.faults)
    return app
