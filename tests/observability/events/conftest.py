"""What the tests of events share: databases with an outbox and an inbox, and one clock for all spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import opentelemetry.sdk.trace as sdk_trace
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import create_engine
from observability.events.event import Event
from observability.events.inbox import inbox_table
from observability.events.outbox import outbox_table
from observability.testing import Recorder


@pytest.fixture
def recorder(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The plugin's, whose clock also tells since when an event waits."""
    monkeypatch.setattr("observability.events.telemetry.time_ns", vars(sdk_trace)["time_ns"])
    return recorder


@asynccontextmanager
async def database(url: str, service_name: str = "shop") -> AsyncIterator[AsyncEngine]:
    """A database with the two tables of a service."""
    engine = create_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table(service_name).create)
        await connection.run_sync(inbox_table(service_name).create)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def engine(database_url: str, anyio_backend: object) -> AsyncIterator[AsyncEngine]:  # noqa: ARG001 - the loop
    """A database of each kind."""
    async with database(database_url) as made:
        yield made


@pytest.fixture
async def sqlite_engine(tmp_path: Path, anyio_backend: object) -> AsyncIterator[AsyncEngine]:  # noqa: ARG001 - the loop
    """A SQLite file, where the kind does not matter."""
    async with database(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as made:
        yield made


def unthreaded_engine(file: Path, service_name: str = "shop") -> AsyncEngine:
    """A SQLite file with both tables that is asked without threads: for virtual time, and for many short tests."""
    engine = sa.create_engine(f"sqlite:///{file}")
    engine.dialect.is_async = True  # so that it may have the asynchronous face; its calls block, for a moment

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # the driver would begin by itself

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with sa.create_engine(f"sqlite:///{file}").begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        outbox_table(service_name).create(connection)
        inbox_table(service_name).create(connection)
    return AsyncEngine(engine)


def an_event(subject: str = "1", *, type: str = "order.placed", id: str | None = None) -> Event:  # noqa: A002
    """An event about a subject."""
    event = Event(type, "/shop", subject, b"{}")
    return event if id is None else Event(type, "/shop", subject, b"{}", id=id)


async def until(condition: Callable[[], bool]) -> None:
    """Return when something has come true; the test's own time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - what is looked at knows no events
        await asyncio.sleep(0.002)
