"""What becomes of errors that are not the shop's own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import database, observe
from observability.testing import Recorder, client_for
from service.errors import install_error_handlers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """A database that nobody waits for long."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    engine = database.create_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
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
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await _ask(recorder, engine, "SELECT 1") == (503, "1")
    other.close()


async def test_no_connection(recorder: Recorder, engine: AsyncEngine) -> None:
    """While all connections are in use, a request is told to come again."""
    async with AsyncExitStack() as stack:
        for _ in range(15):
            await stack.enter_async_context(database.for_reading(engine).connect())
        assert await _ask(recorder, engine, "SELECT 1") == (503, "1")


async def test_mistake(recorder: Recorder, engine: AsyncEngine) -> None:
    """What the database cannot do is our fault, and asking again does not help."""
    assert await _ask(recorder, engine, "SELECT nothing FROM nowhere") == (500, None)
