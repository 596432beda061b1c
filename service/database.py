"""A service's database: the engine, set up for a server, and its schema, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_S = 5.0
"""How long a SQLite writer waits for another one."""


def create_engine(url: str) -> AsyncEngine:
    """Make the engine of a database, its folder too if it is a SQLite file.

    SQLite is set up for a server: a write-ahead log, so that readers and the writer do not wait for each other, and
    `BEGIN IMMEDIATE`, since a transaction that reads first and then writes fails at once, whatever the busy timeout
    (SQLITE_BUSY_SNAPSHOT). https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        connection.isolation_level = None  # the driver would begin by itself, and late
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        with suppress_instrumentation():
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


async def migrate(engine: AsyncEngine, migrations: Path) -> None:
    """Bring the schema up to date. Whoever comes second waits for the first and finds nothing to do.

    Args:
        engine: The service's database.
        migrations: Folder of the service's Alembic migrations.
    """
    with suppress_instrumentation():
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, migrations)


async def check(engine: AsyncEngine) -> None:
    """Raise if the database cannot be used."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def _upgrade(connection: Connection, migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", _option(Path(__file__).with_name("migrations")))
    config.set_main_option("version_locations", _option(migrations))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _option(path: Path) -> str:
    return str(path).replace("%", "%%")
