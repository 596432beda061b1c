"""SQLite without threads, in the event loop itself: for virtual time, and for many short tests."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from observability.events.inbox import inbox_table
from observability.events.outbox import outbox_table


class _Cursor(sqlite3.Cursor):
    async def _async_soft_close(self) -> None:
        """What asynchronous drivers' cursors have; there is nothing to wait for."""


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


class UnthreadedSQLite(SQLiteDialect_pysqlite):
    """The standard library's driver with an asynchronous face; its calls block, for a moment."""

    is_async = True
    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:  # noqa: ARG002 - SQLAlchemy's signature
        await_only(asyncio.sleep(0))  # others may run, as with any asynchronous driver
        cursor.execute(statement, parameters)


registry.register("sqlite.unthreaded", __name__, UnthreadedSQLite.__name__)


def unthreaded_engine(file: Path, *service_names: str) -> AsyncEngine:
    """A new SQLite file with the tables of services."""
    synchronous = sa.create_engine(f"sqlite:///{file}")
    with synchronous.begin() as connection:
        for name in service_names:
            outbox_table(name).create(connection)
            inbox_table(name).create(connection)
    synchronous.dispose()
    # One connection for all, who wait for each other here: within SQLite they would stop the event loop.
    engine = create_async_engine(
        f"sqlite+unthreaded:///{file}",
        connect_args={"factory": _Connection},
        poolclass=sa.AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin by itself
        connection.execute("PRAGMA synchronous=OFF")

    @sa.event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
