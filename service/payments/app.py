"""Payments, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from observability import Health, Telemetry, instrument_engine, observe
from observability.database import check, create_engine, migrate
from service.errors import install_error_handlers
from service.payments.payments import Payments
from service.payments.routes import router
from service.payments.store import SqlLedger
from service.settings import ServiceSettings


def create_app(settings: ServiceSettings | None = None, *, telemetry: Telemetry | None = None) -> FastAPI:
    """Make the service.

    Args:
        settings: By default read from the environment.
        telemetry: By default made from the environment.
    """
    settings = settings if settings is not None else ServiceSettings()
    telemetry = telemetry if telemetry is not None else Telemetry.from_environment("payments")
    engine = create_engine(settings.database("payments"), "payments")
    instrument_engine(engine, telemetry)
    health = Health()
    health.register("database", partial(check, engine))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await migrate(engine, "payments", Path(__file__).with_name("migrations"))
            app.state.payments = Payments(SqlLedger(engine))
            yield
        finally:
            await engine.dispose()

    app = FastAPI(title="payments", lifespan=lifespan)
    app.include_router(router)
    install_error_handlers(app)
    observe(app, telemetry, inbound_context=settings.inbound_context, health=health, faults=settings.faults)
    return app
