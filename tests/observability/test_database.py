"""The services' databases, on each kind: the schema, starts at once, and readers beside a writer."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
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
from tests.forked import Forked

pytestmark = pytest.mark.anyio

INVENTORY = Path(service.inventory.__file__).with_name("migrations")
PAYMENTS = Path(service.payments.__file__).with_name("migrations")
START = """
import asyncio, pathlib, sys, time
from observability.database import create_engine, migrate
from service.inventory.store import SqlStock

async def start(url, migrations):
    engine = create_engine(url)
    await migrate(engine, "inventory", pathlib.Path(migrations))
    print(len(await SqlStock(engine).items()))
    await engine.dispose()

url, migrations, signal = sys.argv[1:]
print("ready", flush=True)
while not pathlib.Path(signal).exists():
    time.sleep(0.001)
asyncio.run(start(url, migrations))
"""


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
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The engine of an empty database of each kind; of SQLite's neither the file nor its folder is there."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a SQLite database."""
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    yield engine
    await engine.dispose()


async def test_starts_at_once(database_url: str) -> None:
    """Several starts at once in one event loop bring one database up to date, and the goods are on the shelf once."""
    engines = [create_engine(database_url) for _ in range(4)]
    await asyncio.gather(*(migrate(engine, "inventory", INVENTORY) for engine in engines))
    assert [item.sku for item in await SqlStock(engines[0]).items()] == ["anvil", "kettle", "mug", "teapot"]
    for engine in engines:
        await engine.dispose()


def test_processes_start_at_once(database_url: str, tmp_path: Path) -> None:
    """Several processes that start at once bring one empty database up to date, and none finds less than all."""
    signal = tmp_path / "signal"
    with ExitStack() as stack:
        starts = [
            stack.enter_context(closing(Forked(START, [database_url, str(INVENTORY), str(signal)]))) for _ in range(3)
        ]
        for start in starts:
            assert start.readline() == "ready\n"
        signal.touch()
        assert [start.communicate(timeout=50) for start in starts] == [("4\n", "")] * 3


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
    assert len(await SqlStock(engine).items()) == 4
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


async def test_writers_wait(sqlite: AsyncEngine) -> None:
    """On SQLite, transactions that read and then write, many at once, all succeed, and none loses another's change."""
    async with sqlite.begin() as connection:
        await connection.execute(text("CREATE TABLE count (n INTEGER)"))
        await connection.execute(text("INSERT INTO count VALUES (0)"))

    async def increment() -> None:
        async with sqlite.begin() as connection:
            n = (await connection.execute(text("SELECT n FROM count"))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(text("UPDATE count SET n = :n"), {"n": n + 1})

    await asyncio.gather(*(increment() for _ in range(20)))
    async with for_reading(sqlite).connect() as connection:
        assert (await connection.execute(text("SELECT n FROM count"))).scalar_one() == 20


async def test_schema(engine: AsyncEngine) -> None:
    """The schema has the tables of its service, and the references between them are minded."""
    await migrate(engine, "inventory", INVENTORY)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert sorted(names) == ["alembic_version_inventory", "reservations", "stock"]
        with pytest.raises(IntegrityError):
            await connection.execute(text("INSERT INTO reservations VALUES ('order-1', 'nothing', 1, false)"))
