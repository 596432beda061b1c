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
from sqlalchemy import URL, Connection, NullPool, event, exc, make_url, text
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_S = 5.0
"""How long anyone waits for another one's lock, for a free connection or for a new one."""

POOL_SIZE = 10
MAX_OVERFLOW = 5
"""How many more connections there are when there is much to do.

Six processes, two replicas of each service, leave room in the 100 connections that PostgreSQL has by default.
"""

STATEMENT_TIMEOUT_S = 10.0
"""How long PostgreSQL works at one statement, and waits for the next one of a transaction, which may hold locks."""

ANSWER_TIMEOUT_S = 15.0
"""How long PostgreSQL's answer is waited for: more than it may take, so that only silence comes to it."""

_Result = TypeVar("_Result")

_READ_ONLY = "read_only"
_RETRY_S = 0.01
_MIGRATIONS = 0x636C6561727370
"""PostgreSQL's advisory lock of whoever migrates; a number of our own ("clearsp")."""
_BUSY_STATES = ("08", "25P03", "40001", "40P01", "53", "55P03", "57")
"""SQLSTATEs, or their classes, of what may succeed when it is asked for again.

The connection is lost, or none is to be had (08); the transaction was ended as idle (25P03), for another one's sake
(40001, 40P01) or since it waited too long for a lock (55P03); something is used up, such as connections (53); the
server shuts down, starts, or was told to stop the statement, by its time limit too (57).
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
_alembic = threading.Lock()
"""Alembic keeps the migration at work in module globals: one at a time in a process, whatever its event loops."""


def database_url(service_name: str, data_dir: Path, url: str | None) -> str:
    """Which database a service has: the one that is named, or else a SQLite file of its own.

    Args:
        service_name: Whose database it is.
        data_dir: Folder of the SQLite files.
        url: The database that is named, if any is.

    Raises:
        ValueError: The URL cannot be used; see `usable_url`.
    """
    if url:
        return usable_url(url)
    file = URL.create("sqlite+aiosqlite", database=str(data_dir / f"{service_name}.db"))
    return file.render_as_string(hide_password=False)


def usable_url(url: str) -> str:
    """A database's URL, as SQLAlchemy takes it.

    `postgres://` and `postgresql://`, which platforms hand out for libpq, are asyncpg's here, and so is `sslmode`.

    Raises:
        ValueError: It is none, or its driver is missing or cannot wait. The text does not quote it.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+asyncpg")
        dialect = parsed.get_dialect()
    except (exc.ArgumentError, exc.NoSuchModuleError):
        raise ValueError("not a database URL; write one like sqlite+aiosqlite:///shop.db") from None
    if dialect.name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("a database in memory has one connection; name a file: sqlite+aiosqlite:///shop.db")
    if not dialect.is_async:
        raise ValueError(f"the driver {dialect.driver!r} is not asynchronous; name one, as in sqlite+aiosqlite://")
    try:
        dialect.import_dbapi()
    except ModuleNotFoundError:
        extra = "; it comes with clearspan[postgresql]" if dialect.driver == "asyncpg" else ""
        raise ValueError(f"the driver {dialect.driver!r} is not installed{extra}") from None
    if dialect.driver == "asyncpg" and "sslmode" in parsed.query:
        sslmode = parsed.query["sslmode"]
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})
    return parsed.render_as_string(hide_password=False)


def create_engine(url: str, service_name: str = "clearspan") -> AsyncEngine:
    """Make the engine of a database, and the file and its folder too if it is SQLite's.

    A server's database has limits on everything that a request may wait for, and a connection that has died in the pool
    is replaced before anyone is given it.

    SQLite is set up for a server: `migrate` gives the file a write-ahead log, so that readers and the writer do not
    wait for each other, and writers `BEGIN IMMEDIATE`, since a transaction that reads first and then writes fails at
    once, whatever the busy timeout (SQLITE_BUSY_SNAPSHOT). What only reads goes through `for_reading`.
    https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable

    Args:
        url: As `usable_url` gives it.
        service_name: Whose connections they are, as PostgreSQL tells its administrators.

    Raises:
        OSError: The file cannot be written.
    """
    parsed = make_url(url)
    pool = {"pool_size": POOL_SIZE, "max_overflow": MAX_OVERFLOW, "pool_timeout": BUSY_TIMEOUT_S}
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, pool)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, service_name, pool)
    return create_async_engine(parsed, pool_pre_ping=True, **pool)


def _sqlite(url: URL, pool: dict[str, Any]) -> AsyncEngine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        # What cannot be written fails now, with its path; SQLite would fail when it is first asked, and without it.
        Path(url.database).open("ab").close()
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, **pool)

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


def _postgresql(url: URL, service_name: str, pool: dict[str, Any]) -> AsyncEngine:
    limits = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{BUSY_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    }
    engine = create_async_engine(
        url,
        connect_args={
            "timeout": BUSY_TIMEOUT_S,
            "command_timeout": ANSWER_TIMEOUT_S,
            "server_settings": {"application_name": service_name, **limits},
        },
        **pool,
    )

    # asyncpg leaves what the network does to it as it is, which is no error of a database to SQLAlchemy.

    @event.listens_for(engine.sync_engine, "do_connect")
    def on_connect(dialect: Any, _record: object, arguments: list[Any], options: dict[str, Any]) -> object:  # noqa: ANN401 - as SQLAlchemy calls it
        try:
            return dialect.connect(*arguments, **options)
        except OSError as error:
            raise exc.OperationalError(None, None, error, connection_invalidated=True) from error

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect = True
            raise exc.TimeoutError(f"no answer within {ANSWER_TIMEOUT_S} s")

    # SQLAlchemy's own ping takes three round trips here, and hands on the silence of a server.
    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(connection: AdaptedConnection, _record: object, _proxy: object) -> None:
        try:
            connection.run_async(lambda driver: driver.execute("SELECT 1", timeout=BUSY_TIMEOUT_S))
        except Exception as error:
            raise exc.InvalidatePoolError("the connection has died, and so may have the others") from error

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
    """Bring the schema up to date. Whoever comes second waits for the first and finds nothing to do.

    On PostgreSQL it has a connection of its own, without the time limits of requests, except that it waits no longer
    than they do for their locks: they would all wait behind it.

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
            async with _unhurried(engine).begin() as connection:
                if engine.dialect.name == "postgresql":
                    await _only_one(connection)
                await connection.run_sync(_upgrade, service_name, migrations)
        finally:
            _alembic.release()


def is_busy(error: Exception) -> bool:
    """Whether what was asked of a database failed because it has too much to do, or is away for now.

    So it is when no connection became free within BUSY_TIMEOUT_S, when SQLite's one writer was not done within it, and
    when PostgreSQL cannot be reached, is lost on the way, or says one of _BUSY_STATES. What was asked for may have been
    done all the same, where the connection was lost.
    """
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, exc.TimeoutError)
    state: str | None = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or _is_locked(error.orig) or (state or "").startswith(_BUSY_STATES)


async def check(engine: AsyncEngine) -> None:
    """Raise if the database cannot be used."""
    async with for_reading(engine).connect() as connection:
        await connection.execute(text("SELECT 1"))


def _unhurried(engine: AsyncEngine) -> AsyncEngine:
    """The same database for migrations, which take as long as they take."""
    if engine.dialect.name != "postgresql":
        return engine
    endless = dict.fromkeys(("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), "0")
    return create_async_engine(engine.url, poolclass=NullPool, connect_args={"server_settings": endless})


async def _only_one(connection: AsyncConnection) -> None:
    """Wait until nobody else migrates on this PostgreSQL, until the transaction's end."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATIONS})
    # Who waits for a table's lock makes all others wait behind it.
    await connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S}s'"))


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
