"""A service's database: the engine, set up for a server, and its schema, brought up to date."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import Connection, event, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_S = 5.0
"""How long a SQLite writer waits for another one, and any request for a free connection."""

_Result = TypeVar("_Result")

_READ_ONLY = "read_only"
_RETRY_S = 0.01
_alembic = threading.Lock()
"""Alembic keeps the migration at work in module globals: one at a time in a process, whatever its event loops."""


def create_engine(url: str) -> AsyncEngine:
    """Make the engine of a database, and the file and its folder too if it is SQLite's.

    SQLite is set up for a server: `migrate` gives the file a write-ahead log, so that readers and the writer do not
    wait for each other, and writers `BEGIN IMMEDIATE`, since a transaction that reads first and then writes fails at
    once, whatever the busy timeout (SQLITE_BUSY_SNAPSHOT). What only reads goes through `for_reading`.
    https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable

    Raises:
        OSError: The file cannot be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True, pool_timeout=BUSY_TIMEOUT_S)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        # What cannot be written fails now, with its path; SQLite would fail when it is first asked, and without it.
        Path(parsed.database).open("ab").close()
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_timeout=BUSY_TIMEOUT_S)

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        connection.isolation_level = None  # the driver would begin by itself, and late
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        with suppress_instrumentation():
            connection.exec_driver_sql(
                "BEGIN" if _READ_ONLY in connection.get_execution_options() else "BEGIN IMMEDIATE"
            )

    return engine


def for_reading(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for transactions that only read, which on SQLite wait for no writer."""
    return engine.execution_options(**{_READ_ONLY: True})


async def insert_or_find(transaction: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run a transaction that inserts what it does not find; anew, if another one inserts it in between.

    SQLite lets one writer in at a time. Elsewhere two may both find nothing, and the slower one's insert fails; in a
    transaction of its own it then finds what the other one has inserted.
    """
    try:
        return await transaction()
    except exc.IntegrityError:
        return await transaction()


async def migrate(engine: AsyncEngine, service_name: str, migrations: Path) -> None:
    """Bring the schema up to date. On SQLite whoever comes second waits for the first and finds nothing to do.

    Args:
        engine: The service's database.
        service_name: Whose schema it is: services that share a database each keep their own version.
        migrations: Folder of the service's Alembic migrations.
    """
    with suppress_instrumentation():
        if engine.dialect.name == "sqlite":
            await _write_ahead(engine)
        while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(_RETRY_S)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade, service_name, migrations)
        finally:
            _alembic.release()


def is_busy(error: Exception) -> bool:
    """Whether what was asked of a database failed because it has too much to do.

    So it is when no connection became free within BUSY_TIMEOUT_S, or SQLite's one writer was not done within it.
    """
    return isinstance(error, exc.TimeoutError) or (isinstance(error, exc.OperationalError) and _is_locked(error.orig))


async def check(engine: AsyncEngine) -> None:
    """Raise if the database cannot be used."""
    async with for_reading(engine).connect() as connection:
        await connection.execute(text("SELECT 1"))


async def _write_ahead(engine: AsyncEngine) -> None:
    """Switch a SQLite file to a write-ahead log, which it then keeps.

    Two processes that switch a new file at once lock each other out, and SQLite's busy timeout does not help there. So
    the one that is refused gives its locks back and asks again.
    """
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("PRAGMA busy_timeout=0")
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                while not await _switched(driver):  # noqa: ASYNC110 - the other one is another process
                    await asyncio.sleep(_RETRY_S)
        finally:
            await driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")


async def _switched(driver: Any) -> bool:  # noqa: ANN401 - the driver's own class
    try:
        await driver.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if not _is_locked(error):
            raise
        return False
    return True


def _is_locked(error: BaseException | None) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY  # the low byte; the rest says what kind of busy


def _upgrade(connection: Connection, service_name: str, migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", _option(Path(__file__).with_name("migrations")))
    config.set_main_option("version_locations", _option(migrations))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"alembic_version_{service_name}"
    command.upgrade(config, "head")


def _option(path: Path) -> str:
    return str(path).replace("%", "%%")
