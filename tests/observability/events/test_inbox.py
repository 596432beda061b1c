"""The inbox, on both kinds of databases."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from observability.events import inbox as inbox_module
from observability.events.event import Event
from observability.events.inbox import Inbox, inbox_table
from observability.providers import Telemetry
from observability.testing import Recorder
from tests.observability.events.conftest import an_event

pytestmark = pytest.mark.anyio


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """The consumer's."""
    return recorder.telemetry("shop")


@pytest.fixture
def inbox(engine: AsyncEngine, telemetry: Telemetry) -> Inbox:
    """An empty inbox in a database of each kind."""
    return Inbox(engine, "shop", telemetry)


async def _accept(inbox: Inbox, event: Event) -> bool:
    async with inbox._engine.begin() as connection:
        return await inbox.accept(connection, event)


def _counted(recorder: Recorder) -> dict[str, int]:
    points = recorder.metrics("shop").get("clearspan.inbox.events", [])
    return {point.attributes["clearspan.inbox.outcome"]: point.value for point in points}


async def test_once(inbox: Inbox, recorder: Recorder) -> None:
    """An event is new once."""
    event = an_event()
    assert [await _accept(inbox, event) for _ in range(3)] == [True, False, False]
    assert _counted(recorder) == {"applied": 1, "duplicate": 2}


async def test_what_tells_events_apart(inbox: Inbox) -> None:
    """An id belongs to its source: the same one of another source is another event."""
    assert await _accept(inbox, Event("order.placed", "/shop", "1", b"{}", id="1"))
    assert await _accept(inbox, Event("order.placed", "/other", "1", b"{}", id="1"))
    assert not await _accept(inbox, Event("order.paid", "/shop", "2", b"[]", id="1"))


async def test_rolled_back(inbox: Inbox, recorder: Recorder) -> None:
    """An event whose effect is rolled back is as new as before, and is not counted."""
    event = an_event()
    with suppress(ZeroDivisionError):
        async with inbox._engine.begin() as connection:
            assert await inbox.accept(connection, event)
            raise ZeroDivisionError
    assert _counted(recorder) == {}
    assert await _accept(inbox, event)
    assert _counted(recorder) == {"applied": 1}


async def test_session(inbox: Inbox) -> None:
    """A session's transaction will do as well."""
    event = an_event()
    async with AsyncSession(inbox._engine) as session:
        assert await inbox.accept(session, event)
    async with AsyncSession(inbox._engine) as session, session.begin():
        assert await inbox.accept(session, event)
    assert not await _accept(inbox, event)


async def test_deliveries_at_once(inbox: Inbox, recorder: Recorder) -> None:
    """Of many deliveries at the same time one applies the event, whichever of them fail before their commit."""
    event = an_event()
    applied: list[int] = []

    async def deliver(number: int) -> None:
        with suppress(ZeroDivisionError):
            async with inbox._engine.begin() as connection:
                if await inbox.accept(connection, event):
                    await connection.execute(sa.text("SELECT 1"))
                    if not applied and number % 2 == 0:
                        raise ZeroDivisionError
                    applied.append(number)

    await asyncio.gather(*(deliver(number) for number in range(9)))
    assert len(applied) == 1
    assert _counted(recorder)["applied"] == 1


async def test_waits_for_the_other_one(inbox: Inbox) -> None:
    """A second delivery waits for the end of the first one's transaction, and then knows whether it is new."""
    event = an_event()
    async with inbox._engine.connect() as first:
        assert await inbox.accept(first, event)
        second = asyncio.create_task(_accept(inbox, event))
        await first.execute(sa.text("SELECT 1"))
        assert not second.done()
        await first.rollback()
    assert await second


async def test_span(inbox: Inbox, telemetry: Telemetry, recorder: Recorder) -> None:
    """The span in which a duplicate is found says so; that of a new event says nothing."""
    event = an_event()
    tracer = telemetry.tracer_provider.get_tracer("test")
    for name in ("new", "again"):
        with tracer.start_as_current_span(name):
            await _accept(inbox, event)
    attributes = {span.name: dict(span.attributes or {}) for span in recorder.spans}
    assert attributes == {"new": {}, "again": {"clearspan.inbox.outcome": "duplicate"}}


async def test_prune(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied long ago is forgotten, a batch at a time; until then it is remembered."""
    now = 1_800_000_000.0
    monkeypatch.setattr(inbox_module, "time", lambda: now)
    old = [an_event(str(number)) for number in range(5)]
    for event in old:
        await _accept(inbox, event)
    now += 100
    late = an_event("late")
    await _accept(inbox, late)
    assert await inbox.prune(10, retention_s=200) == 0
    assert not await _accept(inbox, old[0])
    assert [await inbox.prune(3, retention_s=50) for _ in range(3)] == [3, 2, 0]
    assert await _accept(inbox, old[0])
    assert not await _accept(inbox, late)


async def test_migration(engine: AsyncEngine) -> None:
    """The migration that the module shows makes the very table that it uses."""
    source = (inbox_module.__doc__ or "").partition("op.create_table(")[2]
    code = f"op.create_table({source}".replace("shipping_inbox", "by_hand_inbox")

    def migrate(connection: sa.Connection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        exec(code.strip(), {"op": operations, "sa": sa})  # noqa: S102 - what the docstring shows

    def described(connection: sa.Connection, name: str) -> str:
        inspector = sa.inspect(connection)
        parts = (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name)["constrained_columns"],
            [(index["name"], index["column_names"]) for index in inspector.get_indexes(name)],
        )
        return str(parts).replace(name, "inbox")

    async with engine.begin() as connection:
        await connection.run_sync(migrate)
        by_hand = await connection.run_sync(described, "by_hand_inbox")
        by_module = await connection.run_sync(described, "shop_inbox")
        await connection.execute(sa.schema.DropTable(inbox_table("by_hand")))
    assert by_hand == by_module
