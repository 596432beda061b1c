"""All outboxes of a project."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from observability.database import create_engine
from observability.events.event import Event
from observability.events.nats.binding import MESSAGE_ID, ONLY_FOR, to_nats
from observability.events.nats.connection import NatsConnection
from observability.events.nats.dead import ATTEMPTS, REASON, SUBJECT
from observability.events.nats.streams import Streams
from observability.events.outbox import outbox_table
from observability.events.undelivered import UndeliveredError, open_undelivered
from tests.nats_server import NatsServer

pytestmark = pytest.mark.anyio


async def _create(path: Path, name: str) -> None:
    engine = create_engine(f"sqlite+aiosqlite:///{path}")
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table(name).create)
    await engine.dispose()


async def test_found(tmp_path: Path) -> None:
    """Services that have an outbox are found, and to look for the others' makes no files."""
    await _create(tmp_path / "orders.db", "orders")
    await _create(tmp_path / "inventory.db", "another")
    async with open_undelivered(["orders", "inventory", "payments"], tmp_path, None, None) as undelivered:
        assert [line async for line in undelivered.lines(10)] == ["orders: 0 wait, 0 dead"]
    assert not (tmp_path / "payments.db").exists()


async def test_shared_database(postgres_url: str, tmp_path: Path) -> None:
    """In a database that several services share each has its own outbox."""
    engine = create_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("orders").create)
        await connection.run_sync(outbox_table("shipping").create)
    await engine.dispose()
    async with open_undelivered(["orders", "payments", "shipping"], tmp_path, postgres_url, None) as undelivered:
        lines = [line async for line in undelivered.lines(10)]
    assert lines == ["orders: 0 wait, 0 dead", "shipping: 0 wait, 0 dead"]


async def test_dead_letters(own_nats: NatsServer, tmp_path: Path) -> None:
    """What died behind a broker is told with the rest, tried again where it died, and deleted."""
    await _create(tmp_path / "orders.db", "orders")
    own_nats.start()
    event = Event("order.placed", "/orders", "order-1", b"{}", id="event-1")
    headers, body = to_nats(event)
    headers |= {ONLY_FOR: "shipping", SUBJECT: "events.order.placed", REASON: "no%20anvils", ATTEMPTS: "8"}
    async with NatsConnection(own_nats.url, "test") as connection, asyncio.timeout(20):
        await connection.connected(10)
        await Streams().make(connection.jetstream)
        for event_id in ("event-1", "event-2"):
            named = headers | {"ce-id": event_id, MESSAGE_ID: event_id}
            await connection.jetstream.publish("events_dead.shipping.order.placed", body, headers=named)
    async with open_undelivered(["orders"], tmp_path, None, own_nats.url) as undelivered:
        first, _, _, count = [line async for line in undelivered.lines(10)]
        assert first == ("shipping  event-1  order.placed  order-1  dead letter after 8 attempts, 0 s old: no anvils")
        assert count == "dead letters: 2"
        assert await undelivered.retry("event-1") == 1
        assert await undelivered.discard("event-2") == 1
        assert [line async for line in undelivered.lines(10)] == ["orders: 0 wait, 0 dead", "dead letters: 0"]


async def test_no_broker(tmp_path: Path) -> None:
    """A broker's URL that is none of NATS is refused in one line."""
    await _create(tmp_path / "orders.db", "orders")
    with pytest.raises(UndeliveredError, match=r"BROKER_URL: the URL of NATS has to begin with nats://"):
        async with open_undelivered(["orders"], tmp_path, None, "amqp://canary"):
            pass


async def test_nothing(tmp_path: Path) -> None:
    """Where no service has an outbox that is said, with what to do."""
    with pytest.raises(UndeliveredError, match="name its --data-dir or DATABASE_URL"):
        async with open_undelivered(["orders"], tmp_path, None, None):
            pass


async def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no database is named with the reason."""
    (tmp_path / "orders.db").write_text("not a database, though it has more than the hundred bytes of a header" * 9)
    with pytest.raises(UndeliveredError, match="the database of orders cannot be read: file is not a database"):
        async with open_undelivered(["orders"], tmp_path, None, None):
            pass


async def test_not_a_url(tmp_path: Path) -> None:
    """A URL that is none is refused in one line that does not quote it."""
    with pytest.raises(UndeliveredError, match="not a database URL") as caught:
        async with open_undelivered(["orders"], tmp_path, "canary", None):
            pass
    assert "canary" not in str(caught.value)
