"""What the tests of events share: databases with an outbox and an inbox, NATS servers, one clock for all spans."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import opentelemetry.sdk.trace as sdk_trace
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import create_engine
from observability.events.event import Event
from observability.events.inbox import inbox_table
from observability.events.nats.streams import Streams
from observability.events.outbox import outbox_table
from observability.testing import Recorder
from tests.nats_server import NatsServer
from tests.postgres import PostgresServer

_NUMBERS = itertools.count(1)


@pytest.fixture
def recorder(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The plugin's, whose clock also tells since when an event waits."""
    monkeypatch.setattr("observability.events.telemetry.time_ns", vars(sdk_trace)["time_ns"])
    return recorder


@asynccontextmanager
async def database(url: str, service_name: str = "shop") -> AsyncIterator[AsyncEngine]:
    """A database with the two tables of a service, which go with the block."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        await _write_ahead(engine)
    tables = [outbox_table(service_name), inbox_table(service_name)]
    async with engine.begin() as connection:
        for table in tables:
            await connection.run_sync(table.create)
    try:
        yield engine
    finally:
        async with engine.begin() as connection:
            for table in tables:
                await connection.run_sync(table.drop)
        await engine.dispose()


@pytest.fixture(scope="session")
def database_of_events(shared_postgres: PostgresServer) -> Iterator[str]:
    """One PostgreSQL database, since making one takes longer than a test."""
    with shared_postgres.database() as url:
        yield url


@pytest.fixture
async def postgresql_engine(database_of_events: str, anyio_backend: object) -> AsyncIterator[AsyncEngine]:  # noqa: ARG001 - the loop
    """A PostgreSQL database, where its own way of doing things matters."""
    async with database(database_of_events) as made:
        yield made


@pytest.fixture
async def sqlite_engine(tmp_path: Path, anyio_backend: object) -> AsyncIterator[AsyncEngine]:  # noqa: ARG001 - the loop
    """A SQLite file, where the kind does not matter."""
    async with database(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncEngine:  # noqa: ARG001 - the loop
    """A database of each kind."""
    made: AsyncEngine = request.getfixturevalue(f"{request.param}_engine")
    return made


async def _write_ahead(engine: AsyncEngine) -> None:
    """Do for a file what `migrate` does first."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("PRAGMA journal_mode=WAL")


def an_event(subject: str = "1", *, type: str = "order.placed", id: str | None = None) -> Event:  # noqa: A002
    """An event about a subject."""
    event = Event(type, "/shop", subject, b"{}")
    return event if id is None else Event(type, "/shop", subject, b"{}", id=id)


async def until(condition: Callable[[], bool]) -> None:
    """Return when something has come true; the test's own time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - what is looked at knows no events
        await asyncio.sleep(0.002)


@pytest.fixture(scope="module")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for all tests of a module, none of which may stop it."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), max_payload=64 * 1024)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own, which has a port and is not started."""
    server = NatsServer(tmp_path / "nats")
    server.reserve()
    yield server
    server.kill()


@pytest.fixture
def streams() -> Streams:
    """Streams that no other test uses."""
    return Streams(f"T{next(_NUMBERS)}", max_bytes=64 * 1024**2, dead_max_bytes=16 * 1024**2)
