"""Being told by PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.database import create_engine
from observability.events import notifications as notifications_module
from observability.events.notifications import notifications
from observability.events.outbox import Outbox
from observability.testing import Recorder
from tests.observability.events.conftest import an_event

pytestmark = pytest.mark.anyio


async def test_commits_of_others(postgresql_engine: AsyncEngine, recorder: Recorder) -> None:
    """A commit of events is told to every process that listens, a rollback to none, and what people mend too."""
    told = asyncio.Semaphore(0)
    listening = create_engine(postgresql_engine.url.render_as_string(hide_password=False))
    outbox = Outbox(postgresql_engine, "shop", recorder.telemetry("shop"))
    async with notifications(listening, outbox.channel, told.release):
        await told.acquire()  # at the beginning, for what was told before
        async with postgresql_engine.connect() as connection:
            await outbox.add(connection, an_event())
            await connection.rollback()
            await outbox.add(connection, an_event("a"))
            await outbox.add(connection, an_event("b"))
            await connection.commit()
        await told.acquire()
        claimed = (await outbox.claim("one", 1, lease_s=30))[0]
        await outbox.refused("one", claimed, "never", again_in_s=None)
        await outbox.retry()
        await told.acquire()
        await outbox.discard(claimed.event.id)
        await told.acquire()
        async with postgresql_engine.begin() as connection:
            await connection.execute(sa.text("SELECT pg_notify('other', '')"))
            await connection.execute(sa.text("SELECT pg_notify(:channel, '')"), {"channel": outbox.channel})
        await told.acquire()
        assert told.locked()
    await listening.dispose()


async def test_lost_connection(
    postgresql_engine: AsyncEngine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is lost is made anew, which is told, as is what comes then."""
    monkeypatch.setattr(notifications_module, "RECONNECT_S", 0.01)
    told = asyncio.Semaphore(0)
    outbox = Outbox(postgresql_engine, "shop", recorder.telemetry("shop"))
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
    )
    async with notifications(postgresql_engine, outbox.channel, told.release):
        await told.acquire()
        async with postgresql_engine.connect() as connection:
            ended = await connection.execute(sa.text(others))
            assert ended.scalars().all() == [True]
            await connection.rollback()
            await told.acquire()
            await outbox.add(connection, an_event())
            await connection.commit()
        await told.acquire()


async def test_nothing_is_left(postgresql_engine: AsyncEngine) -> None:
    """The connection that listened serves nobody else afterwards."""
    told = asyncio.Semaphore(0)
    async with notifications(postgresql_engine, "shop_outbox", told.release):
        await told.acquire()
    async with postgresql_engine.begin() as connection:
        listening = await connection.execute(sa.text("SELECT pg_listening_channels()"))
        assert listening.scalars().all() == []
