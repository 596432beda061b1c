"""The services' databases: the schema, and readers beside a writer."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

import service.inventory
import service.payments
from observability.database import check, create_engine, for_reading, insert_or_find, migrate
from service.inventory.store import SqlStock
from service.payments.store import SqlLedger

pytestmark = pytest.mark.anyio

INVENTORY = Path(service.inventory.__file__).with_name("migrations")
PAYMENTS = Path(service.payments.__file__).with_name("migrations")


async def test_insert_or_find() -> None:
    """A transaction whose insert another one has forestalled runs once more, and then fails with what is wrong."""
    runs: list[int] = []

    async def forestalled(times: int) -> str:
        runs.append(1)
        if len(runs) <= times:
            raise IntegrityError("INSERT", None, Exception("taken"))
        return "found"

    assert await insert_or_find(partial(forestalled, 1)) == "found"
    runs.clear()
    with pytest.raises(IntegrityError):
        await insert_or_find(partial(forestalled, 9))
    assert len(runs) == 2


def test_unusable_file(tmp_path: Path) -> None:
    """A file that cannot be written is told with its path before anything is asked of it."""
    (tmp_path / "taken.db").mkdir()
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path / "taken.db"))):
        create_engine(f"sqlite+aiosqlite:///{tmp_path}/taken.db")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a database that is not there yet, nor is its folder."""
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/new/shop.db")
    yield engine
    await engine.dispose()


async def test_starts_at_once(tmp_path: Path) -> None:
    """Several starts at once in one event loop bring one database up to date, and the goods are on the shelf once."""
    engines = [create_engine(f"sqlite+aiosqlite:///{tmp_path}/inventory.db") for _ in range(4)]
    await asyncio.gather(*(migrate(engine, "inventory", INVENTORY) for engine in engines))
    assert len(await SqlStock(engines[0]).items()) == 3
    for engine in engines:
        await engine.dispose()


async def test_start_beside_a_start(tmp_path: Path) -> None:
    """A start that finds another one at work on a new file waits for it; SQLite by itself fails at once there."""
    file = tmp_path / "inventory.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    engine = create_engine(f"sqlite+aiosqlite:///{file}")
    start = asyncio.create_task(migrate(engine, "inventory", INVENTORY))
    await asyncio.wait({start}, timeout=0.2)
    assert not start.done()
    other.execute("ROLLBACK")
    other.close()
    await start
    assert len(await SqlStock(engine).items()) == 3
    await engine.dispose()


async def test_shared(engine: AsyncEngine) -> None:
    """Services that are given one database each bring their own schema."""
    await migrate(engine, "inventory", INVENTORY)
    await migrate(engine, "payments", PAYMENTS)
    assert await SqlStock(engine).items()
    assert await SqlLedger(engine).get("order-1") is None


async def test_readers_beside_a_writer(engine: AsyncEngine) -> None:
    """What only reads, the health check too, does not wait for a writer."""
    await migrate(engine, "inventory", INVENTORY)
    async with engine.begin() as writer:
        await writer.execute(text("UPDATE stock SET available = 0"))
        # Whoever begins as a writer fails here: the lock is given back below only.
        item = await SqlStock(engine).item("mug")
        await check(engine)
        await writer.rollback()
    assert item is not None
    assert item.available == 1_000_000


async def test_writers_wait(engine: AsyncEngine) -> None:
    """Transactions that read and then write, many at once, all succeed, and none loses another's change."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE count (n INTEGER)"))
        await connection.execute(text("INSERT INTO count VALUES (0)"))

    async def increment() -> None:
        async with engine.begin() as connection:
            n = (await connection.execute(text("SELECT n FROM count"))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(text("UPDATE count SET n = :n"), {"n": n + 1})

    await asyncio.gather(*(increment() for _ in range(20)))
    async with for_reading(engine).connect() as connection:
        assert (await connection.execute(text("SELECT n FROM count"))).scalar_one() == 20


async def test_schema(engine: AsyncEngine) -> None:
    """The schema has the tables of its service, and SQLite minds the references between them."""
    await migrate(engine, "inventory", INVENTORY)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
    assert names == ["alembic_version_inventory", "reservations", "stock"]
