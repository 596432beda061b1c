"""What is told when a caller's transaction commits."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from observability.events.transaction import _told_on_commit, connection_of, on_commit

pytestmark = pytest.mark.anyio


@pytest.fixture
def told() -> list[str]:
    """What was told so far."""
    return []


def _tell(told: list[str], what: str) -> Callable[[], None]:
    return lambda: told.append(what)


async def test_commit(engine: AsyncEngine, told: list[str]) -> None:
    """Each function is called once, in their order, when the transaction commits and not before."""
    async with engine.begin() as connection:
        on_commit(connection, _tell(told, "first"))
        on_commit(connection, _tell(told, "second"))
        assert told == []
    assert told == ["first", "second"]


async def test_rollback(engine: AsyncEngine, told: list[str]) -> None:
    """After a rollback nothing is called, whether it was asked for or came of an error or of the connection's end."""
    async with engine.connect() as connection:
        on_commit(connection, _tell(told, "asked for"))
        await connection.rollback()
        with suppress(ZeroDivisionError):
            async with connection.begin():
                on_commit(connection, _tell(told, "error"))
                raise ZeroDivisionError
        await connection.execute(sa.text("SELECT 1"))
        on_commit(connection, _tell(told, "end"))
    assert told == []


async def test_connection_that_is_used_again(engine: AsyncEngine, told: list[str]) -> None:
    """A later transaction of the same connection tells its own, and nothing of those before it."""
    async with engine.connect() as connection:
        async with connection.begin():
            on_commit(connection, _tell(told, "committed"))
        transaction = await connection.begin()
        on_commit(connection, _tell(told, "rolled back"))
        await transaction.rollback()
        async with connection.begin():
            on_commit(connection, _tell(told, "last"))
    async with engine.begin():
        pass  # most likely on the same connection of the pool
    assert told == ["committed", "last"]


async def test_savepoint(engine: AsyncEngine, told: list[str]) -> None:
    """A savepoint tells nothing by itself: the transaction around it does, when it commits."""
    async with engine.begin() as connection:
        async with connection.begin_nested():
            on_commit(connection, _tell(told, "within"))
        assert told == []
    assert told == ["within"]


async def test_session(engine: AsyncEngine, told: list[str]) -> None:
    """A session's transaction is that of its connection."""
    async with AsyncSession(engine) as session, session.begin():
        on_commit(await connection_of(session), _tell(told, "committed"))
    async with AsyncSession(engine) as session:
        on_commit(await connection_of(session), _tell(told, "rolled back"))
    assert told == ["committed"]


async def test_connection_itself(engine: AsyncEngine) -> None:
    """A connection is its own."""
    async with engine.begin() as connection:
        assert await connection_of(connection) is connection


async def test_nothing_is_kept(engine: AsyncEngine, told: list[str]) -> None:
    """Of connections that are gone nothing is kept."""
    before = len(_told_on_commit)
    for _ in range(10):
        async with engine.begin() as connection:
            on_commit(connection, _tell(told, "committed"))
    del connection
    gc.collect()
    assert len(_told_on_commit) <= before
