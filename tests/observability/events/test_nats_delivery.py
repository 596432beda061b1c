"""From the outbox to the stream."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from nats.js.api import StreamConfig

from observability.events.delivery import Refused, Unavailable
from observability.events.event import NotAnEventError
from observability.events.nats.binding import from_nats, to_nats
from observability.events.nats.connection import NatsConnection
from observability.events.nats.delivery import NatsDelivery
from observability.events.nats.streams import Streams
from tests.nats_server import NatsServer
from tests.observability.events.broker import eventually, nothing_lost, placed, send, sending, with_context

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connection(shared_nats: NatsServer) -> AsyncIterator[NatsConnection]:
    """A connection that is made."""
    async with NatsConnection(shared_nats.url, "test") as connection:
        await connection.connected(10)
        yield connection


async def messages(connection: NatsConnection, streams: Streams) -> int:
    """How many messages the stream has."""
    return (await connection.jetstream.stream_info(streams.name)).state.messages


def test_event_keeps_everything_as_a_message() -> None:
    """An event that becomes a message of NATS and an event again is the same."""
    event = with_context(dataclasses.replace(placed(1), source="/bestellungen/ä", subject='50 % "of" €'))
    headers, body = to_nats(event)
    assert headers["ce-datacontenttype"] == "application/json"
    assert "content-type" not in headers
    assert all(value.isascii() for value in headers.values())
    assert from_nats(headers, body) == event


def test_structured_mode_is_no_event() -> None:
    """A message in the binding's structured mode is not taken."""
    with pytest.raises(NotAnEventError):
        from_nats({"Content-Type": "application/cloudevents+json"}, b"{}")


async def test_event_that_is_sent_again_is_stored_once(connection: NatsConnection, streams: Streams) -> None:
    """An event that is sent twice is delivered both times and stored once."""
    async with sending(connection, streams) as delivery:
        await delivery.send(placed(1))
        await delivery.send(placed(1))
        await delivery.send(placed(2))
        assert await messages(connection, streams) == 2


async def test_many_at_once(connection: NatsConnection, streams: Streams) -> None:
    """As many events as may be under way at once are all stored."""
    async with sending(connection, streams) as delivery:
        await asyncio.gather(*(delivery.send(placed(number)) for number in range(delivery.max_in_flight)))
        assert await messages(connection, streams) == delivery.max_in_flight


async def test_too_large_is_refused_for_good(connection: NatsConnection, streams: Streams) -> None:
    """An event larger than the server takes is refused for good, and the connection lives on."""
    async with sending(connection, streams) as delivery:
        number = connection.number
        for spare in (0, 100, 2000):  # with headers, and without them, around the bound
            large = dataclasses.replace(placed(1), data=b"1" * (64 * 1024 - spare))
            with pytest.raises(Refused) as refused:
                await delivery.send(large)
            assert refused.value.final
        await delivery.send(placed(2))
        assert connection.number == number


@pytest.mark.parametrize("type_", ["order placed", "order.*", "order.>", "order..placed", ".placed"])
async def test_type_without_a_subject_is_refused_for_good(
    connection: NatsConnection, streams: Streams, type_: str
) -> None:
    """An event whose type NATS can have in no subject is refused for good."""
    delivery = NatsDelivery(connection, streams, nothing_lost)
    with pytest.raises(Refused) as refused:
        await delivery.send(placed(1, type_=type_))
    assert refused.value.final


async def test_nothing_is_sent_before_the_stream_is_made(connection: NatsConnection, streams: Streams) -> None:
    """Without a stream an event is not delivered, and all of its type wait."""
    delivery = NatsDelivery(connection, streams, nothing_lost)
    with pytest.raises(Unavailable):
        await delivery.send(placed(1))


async def test_full_stream_refuses_and_keeps_what_it_has(connection: NatsConnection, streams: Streams) -> None:
    """A full stream takes no more events, which then wait, and loses none of those that it has."""
    async with sending(connection, dataclasses.replace(streams, max_bytes=2000)) as delivery:
        await delivery.send(placed(1))
        with pytest.raises(Unavailable):
            await asyncio.gather(*(delivery.send(placed(number)) for number in range(2, 20)))
        assert (await connection.jetstream.get_msg(streams.name, seq=1)).headers is not None


async def test_streams_are_made_by_many_at_once(shared_nats: NatsServer, streams: Streams) -> None:
    """Replicas that start at once all find the streams made."""

    async def replica() -> None:
        async with NatsConnection(shared_nats.url, "test") as connection:
            await connection.connected(10)
            await asyncio.gather(*(streams.make(connection.jetstream) for _ in range(5)))

    await asyncio.gather(*(replica() for _ in range(5)))


async def test_streams_get_other_bounds(connection: NatsConnection, streams: Streams) -> None:
    """A stream that is there gets the bounds of whoever comes later."""
    await streams.make(connection.jetstream)
    info = await dataclasses.replace(streams, max_bytes=32 * 1024**2).make(connection.jetstream)
    assert info.config.max_bytes == 32 * 1024**2


async def test_another_stream_at_the_subject_is_no_delivery(connection: NatsConnection, streams: Streams) -> None:
    """An event that some other stream would store is not delivered."""
    other = StreamConfig(name=f"{streams.name}_OTHER", subjects=[f"{streams.name.lower()}.>"])
    await connection.jetstream.add_stream(other)
    delivery = NatsDelivery(connection, streams, nothing_lost)
    with pytest.raises(Unavailable):
        await delivery.send(placed(1))


async def test_stream_that_was_deleted_is_made_again_and_told(connection: NatsConnection, streams: Streams) -> None:
    """When a stream is gone, whoever sends is told between which times events may be lost, and it is made again."""
    lost: list[tuple[float, float]] = []

    async def on_lost(since: float, until: float) -> None:
        lost.append((since, until))
        if len(lost) == 2:
            raise OSError("the database is away")  # it is asked again

    async with sending(connection, streams, on_lost) as delivery:
        await delivery.send(placed(1))
        assert len(lost) == 1  # the stream is young: earlier events, of which there are none, are not in it
        await connection.jetstream.delete_stream(streams.name)
        await send(delivery, placed(1))
        await eventually(lambda: len(lost) == 3)
        assert all(until - since == pytest.approx(streams.max_age_s, abs=60) for since, until in lost)
        assert await messages(connection, streams) == 1


async def test_stream_that_got_shorter_is_told(connection: NatsConnection, streams: Streams) -> None:
    """When a stream gives a number again that it gave before, whoever sends is told that its end may be lost."""
    lost: list[float] = []

    async def on_lost(since: float, until: float) -> None:
        lost.append(until - since)

    async with sending(connection, streams, on_lost) as delivery:
        await delivery.send(placed(1))
        delivery._last = 5  # what it had been told before the server lost its end
        await delivery.send(placed(2))
        await eventually(lambda: len(lost) == 2)
        assert lost[1] == pytest.approx(600)
        await delivery.send(placed(3))
        assert delivery._last == 3


async def test_service_starts_without_a_server(own_nats: NatsServer, streams: Streams) -> None:
    """A service starts without NATS, sends nothing until it is there, and does then."""
    async with NatsConnection(own_nats.url, "test") as connection:
        delivery = NatsDelivery(connection, streams, nothing_lost)
        async with delivery.running():
            with pytest.raises(Unavailable):
                await delivery.send(placed(1))
            with pytest.raises(Unavailable):
                await connection.connected(0.01)
            await asyncio.to_thread(own_nats.start)
            await send(delivery, placed(1))


async def test_service_ends_without_a_server(own_nats: NatsServer, streams: Streams) -> None:
    """A service whose NATS never came ends."""
    async with asyncio.timeout(20), NatsConnection(own_nats.url, "test") as connection:
        delivery = NatsDelivery(connection, streams, nothing_lost)
        async with delivery.running():
            assert connection.number == 0


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "nats://127.0.0.1:4222,redis://127.0.0.1"])
async def test_other_urls_are_refused(url: str) -> None:
    """A URL that is none of NATS is refused at once."""
    with pytest.raises(ValueError, match="nats://"):
        NatsConnection(url, "test")
