"""A PostgreSQL that is slow, restarted, silent or gone, and what its migrations wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

import service.inventory
from observability import database
from observability.database import create_engine, is_busy, migrate
from tests.postgres import PostgresServer

pytestmark = pytest.mark.anyio

INVENTORY = Path(service.inventory.__file__).with_name("migrations")
SLOW = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("SELECT pg_sleep(0.2)")
"""


async def _ask(engine: AsyncEngine, statement: str = "SELECT 1") -> object:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement))).scalar()


async def _refused(engine: AsyncEngine, statement: str = "SELECT 1") -> Exception:
    with pytest.raises(SQLAlchemyError) as caught:
        await _ask(engine, statement)
    return caught.value


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """The engine of an empty database."""
    engine = create_engine(postgres_url, "shop")
    yield engine
    await engine.dispose()


@pytest.fixture
async def mortal(mortal_postgres: PostgresServer) -> AsyncIterator[AsyncEngine]:
    """The engine of a server that the test may stop, with connections in the pool."""
    engine = create_engine(mortal_postgres.url)
    await asyncio.gather(*(_ask(engine) for _ in range(5)))
    yield engine
    await engine.dispose()


async def test_settings(engine: AsyncEngine) -> None:
    """Connections tell whose they are, and have limits on statements, locks, and transactions that are left open."""
    names = ("application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    assert [await _ask(engine, f"SHOW {name}") for name in names] == ["shop", "10s", "5s", "10s"]


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_restart(
    mortal: AsyncEngine, mortal_postgres: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    """Connections that died in the pool when the server was restarted are replaced, and no request fails of them."""
    end(mortal_postgres)
    mortal_postgres.start()
    assert await asyncio.gather(*(_ask(mortal) for _ in range(10))) == [1] * 10


async def test_gone(mortal: AsyncEngine, mortal_postgres: PostgresServer) -> None:
    """While there is no server, whoever asks is told to come again, and finds it when it is back."""
    mortal_postgres.stop()
    for _ in range(2):
        assert is_busy(await _refused(mortal))
    mortal_postgres.start()
    assert await _ask(mortal) == 1


async def test_lost(mortal: AsyncEngine, mortal_postgres: PostgresServer) -> None:
    """A statement that the end of the server overtakes may be asked for again."""
    asked = asyncio.create_task(_refused(mortal, "SELECT pg_sleep(50)"))
    while await _ask(mortal, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != 1:
        pass
    mortal_postgres.kill()
    assert is_busy(await asked)


async def test_silent(mortal_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing any more is not waited for, and its connections are replaced when it answers again."""
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.5)
    engine = create_engine(mortal_postgres.url)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        processes = mortal_postgres.processes
        for process in processes:
            process.suspend()
        with pytest.raises(SQLAlchemyError) as caught:  # within a transaction
            await connection.execute(text("SELECT 1"))
        assert is_busy(caught.value)
    assert is_busy(await _refused(engine))  # on a new connection
    for process in processes:
        process.resume()
    monkeypatch.undo()
    assert await _ask(engine) == 1
    await engine.dispose()


async def test_idle_in_transaction(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is left open is ended by the server, and what it would go on with may be asked for again."""
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_S", 0.05)
    engine = create_engine(postgres_url)
    ended = asyncio.Event()
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        driver.add_termination_listener(lambda _: ended.set())
        await ended.wait()
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT 1"))
    assert is_busy(caught.value)
    await engine.dispose()


@pytest.mark.parametrize(
    ("state", "busy"),
    [
        ("53300", True),  # too many connections
        ("57P01", True),  # shutting down
        ("57P03", True),  # starting up
        ("57014", True),  # statement timeout
        ("55P03", True),  # lock timeout
        ("40P01", True),  # deadlock
        ("40001", True),  # serialization failure
        ("42P01", False),  # no such table
        ("42501", False),  # not allowed
        ("22012", False),  # division by zero
        ("23505", False),  # unique violation
    ],
)
async def test_states(engine: AsyncEngine, state: str, busy: bool) -> None:
    """Whether it helps to ask again is told by PostgreSQL's own code of the error."""
    refusal = await _refused(engine, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    assert is_busy(refusal) is busy


async def test_no_connection_left(shared_postgres: PostgresServer, engine: AsyncEngine) -> None:
    """A server that takes no more connections may be asked again."""
    async with engine.begin() as connection:
        await connection.execute(text("DROP ROLE IF EXISTS crowded"))
        await connection.execute(text("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0"))
    crowded = create_engine(shared_postgres.url.replace("postgres@", "crowded@"))
    assert is_busy(await _refused(crowded))
    await crowded.dispose()


async def test_migrations_wait(engine: AsyncEngine, postgres_url: str) -> None:
    """A start that finds another one at work waits for it, however long, and then migrates."""
    other = create_engine(postgres_url)
    async with other.begin() as connection:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({database._MIGRATIONS})"))
        start = asyncio.create_task(migrate(engine, "inventory", INVENTORY))
        while not await _ask(other, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert not start.done()
    await start
    assert await _ask(engine, "SELECT count(*) FROM stock") == 4
    await other.dispose()


async def test_slow_migration(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration may take longer than any request."""
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", 0.1)
    (tmp_path / "0001_slow.py").write_text(SLOW)
    engine = create_engine(postgres_url)
    await migrate(engine, "slow", tmp_path)
    assert await _ask(engine, "SELECT version_num FROM alembic_version_slow") == "0001"
    await engine.dispose()
