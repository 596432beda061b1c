"""A NATS server that is killed, away, or has lost what it had: what happens to events has to happen once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import Telemetry
from observability.database import create_engine
from observability.events.delivery import DeliveryError
from observability.events.event import Event
from observability.events.inbox import Inbox, inbox_table
from observability.events.nats.connection import NatsConnection
from observability.events.nats.streams import Streams
from observability.events.outbox import Outbox, outbox_table
from observability.events.relay import Relay
from observability.testing import Recorder
from tests.nats_server import NatsServer
from tests.observability.events.broker import PLACED, Seen, consuming, eventually, placed, send, sending, service

pytestmark = pytest.mark.anyio

DURABLE = "shipping-order_placed"
EFFECTS = sa.table("effects", sa.column("event_id"))


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """The service's."""
    return recorder.telemetry("shipping")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with an outbox, an inbox and a table of effects."""
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("test").create)
        await connection.run_sync(inbox_table("test").create)
        await connection.execute(sa.text("CREATE TABLE effects (event_id TEXT)"))
    yield engine
    await engine.dispose()


@pytest.fixture
def applying(engine: AsyncEngine, telemetry: Telemetry) -> Seen:
    """A handler with an effect in the inbox's transaction."""
    inbox = Inbox(engine, "test", telemetry)

    async def apply(event: Event) -> None:
        async with engine.begin() as transaction:
            if await inbox.accept(transaction, event):
                await transaction.execute(sa.insert(EFFECTS).values(event_id=event.id))

    return Seen(apply)


async def effects(engine: AsyncEngine) -> Counter[str]:
    """How often each event had its effect."""
    async with engine.connect() as connection:
        return Counter((await connection.execute(sa.select(EFFECTS.c.event_id))).scalars())


async def test_what_was_acknowledged_survives_a_kill(
    own_nats: NatsServer, streams: Streams, telemetry: Telemetry, engine: AsyncEngine, applying: Seen
) -> None:
    """A server that is killed again and again in the middle of the work loses no event, and each has one effect."""
    events = [placed(number, subject=f"order-{number % 10}") for number in range(400)]
    own_nats.start()
    async with service(own_nats.url, streams, telemetry, applying) as delivery:
        for begin in range(0, 400, 100):
            batch = asyncio.gather(*(send(delivery, event) for event in events[begin : begin + 100]))
            await eventually(lambda begin=begin: len(set(applying.ids)) > begin + 20)  # type: ignore[misc]
            await asyncio.to_thread(own_nats.kill)
            await asyncio.to_thread(own_nats.start)
            await batch
        await eventually(lambda: len(set(applying.ids)) == 400, timeout_s=50)
    assert await effects(engine) == {event.id: 1 for event in events}


async def test_publish_during_an_outage(
    own_nats: NatsServer, streams: Streams, telemetry: Telemetry, engine: AsyncEngine, applying: Seen
) -> None:
    """An event that was refused while the server was away is sent again, and has one effect."""
    own_nats.start()
    async with service(own_nats.url, streams, telemetry, applying) as delivery:
        sends = [asyncio.create_task(delivery.send(placed(number))) for number in range(50)]
        await asyncio.sleep(0)  # they are on their way
        await asyncio.to_thread(own_nats.kill)
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, DeliveryError) for outcome in outcomes)
        await asyncio.to_thread(own_nats.start)
        await send(delivery, *(placed(number) for number in range(50)))
        await eventually(lambda: len(set(applying.ids)) == 50)
    assert await effects(engine) == {f"event-{number}": 1 for number in range(50)}


async def test_stream_that_is_lost_is_filled_again(
    own_nats: NatsServer, streams: Streams, telemetry: Telemetry, engine: AsyncEngine, applying: Seen
) -> None:
    """Events that a server has lost with its whole disk, before anyone took them, come out of the outbox again."""
    outbox = Outbox(engine, "test", telemetry)
    own_nats.start()
    async with (
        NatsConnection(own_nats.url, "test") as connection,
        sending(connection, streams, outbox.send_again) as delivery,
        Relay(outbox, delivery, telemetry).running(),
    ):
        async with engine.begin() as transaction:
            for number in range(20):
                await outbox.add(transaction, placed(number))
        await eventually(lambda: delivery._last == 20)
        await asyncio.to_thread(own_nats.forget)
        await asyncio.to_thread(own_nats.start)
        async with consuming(connection, streams, telemetry, {PLACED: applying}):
            await eventually(lambda: len(set(applying.ids)) == 20, timeout_s=50)
    assert await effects(engine) == {f"event-{number}": 1 for number in range(20)}


async def test_loss_while_nobody_looked(
    own_nats: NatsServer, streams: Streams, telemetry: Telemetry, engine: AsyncEngine, applying: Seen
) -> None:
    """A service that starts after the server has lost its disk sends again what it had sent, whoever came first."""
    outbox = Outbox(engine, "test", telemetry)
    async with engine.begin() as transaction:
        await outbox.add(transaction, placed(1))
    (claimed,) = await outbox.claim("earlier", 10, lease_s=30)
    await outbox.sent("earlier", [claimed.seq])
    own_nats.start()
    async with (
        NatsConnection(own_nats.url, "test") as connection,
        consuming(connection, streams, telemetry, {PLACED: applying}),  # makes the stream
        sending(connection, streams, outbox.send_again) as delivery,
        Relay(outbox, delivery, telemetry).running(),
    ):
        await eventually(lambda: applying.ids == ["event-1"])


async def test_consumer_starts_without_a_server(own_nats: NatsServer, streams: Streams, telemetry: Telemetry) -> None:
    """A consumer starts without NATS and takes events when it is there."""
    seen = Seen()
    async with (
        NatsConnection(own_nats.url, "test") as connection,
        consuming(connection, streams, telemetry, {PLACED: seen}),
    ):
        await asyncio.to_thread(own_nats.start)
        async with sending(connection, streams) as delivery:
            await send(delivery, placed(1))
            await eventually(lambda: seen.ids == ["event-1"])


async def test_event_in_work_while_the_server_is_away(
    own_nats: NatsServer, streams: Streams, telemetry: Telemetry
) -> None:
    """The end of an event that was worked on while the server was killed is told by the next connection."""
    go = asyncio.Event()

    async def wait(_: Event) -> None:
        await go.wait()

    seen = Seen(wait)
    own_nats.start()
    async with (
        NatsConnection(own_nats.url, "test") as connection,
        sending(connection, streams) as delivery,
        consuming(connection, streams, telemetry, {PLACED: seen}),
    ):
        await send(delivery, placed(1))
        await eventually(lambda: bool(seen.ids))
        number = connection.number
        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(own_nats.start)
        await eventually(lambda: connection.number > number)
        go.set()
        async with asyncio.timeout(30):
            while (await connection.jetstream.consumer_info(streams.name, DURABLE)).num_ack_pending:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_client_that_closed_for_good_is_replaced(own_nats: NatsServer, streams: Streams) -> None:
    """A client that the server has thrown out, after which nats-py gives up, is replaced by another one."""
    own_nats.start()
    async with NatsConnection(own_nats.url, "test") as connection, sending(connection, streams) as delivery:
        first = connection.client
        await first.close()
        await send(delivery, placed(1))
        assert connection.client is not first


async def test_server_that_answers_nobody(own_nats: NatsServer, streams: Streams, telemetry: Telemetry) -> None:
    """With a server that hangs an event is not delivered, and the service ends all the same."""
    own_nats.start()
    async with asyncio.timeout(40), service(own_nats.url, streams, telemetry, Seen()) as delivery:
        own_nats.freeze()
        with pytest.raises(DeliveryError):
            await delivery.send(placed(1))
