"""What becomes of errors that are not the shop's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import database, observe
from observability.testing import Recorder, client_for, running
from service.errors import install_error_handlers
from service.inventory.app import create_app
from service.settings import ServiceSettings
from tests.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """A database of each kind that nobody waits for long."""
    engine = database.create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE count AS SELECT 0 AS n"))
    await engine.dispose()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.5)
    engine = database.create_engine(database_url)
    yield engine
    await engine.dispose()


async def _ask(recorder: Recorder, engine: AsyncEngine, statement: str) -> tuple[int, str | None]:
    """The status and `Retry-After` of a request that has a statement to run."""
    app = FastAPI()

    @app.get("/")
    async def run() -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    install_error_handlers(app)
    observe(app, recorder.telemetry("shop"))
    async with client_for(app) as client:
        answer = await client.get("/")
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.headers.get("retry-after")


async def test_locked(recorder: Recorder, engine: AsyncEngine) -> None:
    """While another writer does not end, a request is told to come again."""
    async with engine.begin() as other:
        await other.execute(text("UPDATE count SET n = 1"))
        assert await _ask(recorder, engine, "UPDATE count SET n = 2") == (503, "1")


async def test_slow(recorder: Recorder, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that takes too long is stopped, and its request told to come again."""
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_S", 0.05)
    engine = database.create_engine(postgres_url)
    assert await _ask(recorder, engine, "SELECT pg_sleep(50)") == (503, "1")
    await engine.dispose()


async def test_database_gone(recorder: Recorder, mortal_postgres: PostgresServer) -> None:
    """A service whose database is gone is not ready and tells its callers to come again, until it is back."""
    app = create_app(ServiceSettings(database_url=mortal_postgres.url), telemetry=recorder.telemetry("inventory"))
    async with running(app), client_for(app) as client:
        assert (await client.get("/stock")).status_code == 200
        mortal_postgres.stop()
        answer = await client.get("/stock")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/readyz")).status_code == 503
        mortal_postgres.start()
        assert (await client.get("/stock")).status_code == 200


async def test_no_connection(recorder: Recorder, engine: AsyncEngine) -> None:
    """While all connections are in use, a request is told to come again."""
    async with AsyncExitStack() as stack:
        for _ in range(database.POOL_SIZE + database.MAX_OVERFLOW):
            await stack.enter_async_context(database.for_reading(engine).connect())
        assert await _ask(recorder, engine, "SELECT 1") == (503, "1")


async def test_mistake(recorder: Recorder, engine: AsyncEngine) -> None:
    """What the database cannot do is our fault, and asking again does not help."""
    assert await _ask(recorder, engine, "SELECT nothing FROM nowhere") == (500, None)
