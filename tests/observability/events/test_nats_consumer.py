"""From the stream to the handlers of a service."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from observability import Telemetry
from observability.events.delivery import Refused, Unavailable
from observability.events.event import Event
from observability.events.nats.connection import NatsConnection
from observability.events.nats.consumer import Patience
from observability.events.nats.dead import DeadLetter, DeadLetters
from observability.events.nats.streams import Streams
from observability.testing import Recorder
from tests.nats_server import NatsServer
from tests.observability.events.broker import (
    PLACED,
    QUICK,
    Seen,
    consuming,
    eventually,
    placed,
    send,
    sending,
    with_context,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connection(shared_nats: NatsServer) -> AsyncIterator[NatsConnection]:
    """A connection that is made."""
    async with NatsConnection(shared_nats.url, "test") as connection:
        await connection.connected(10)
        yield connection


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """The consumer's."""
    return recorder.telemetry("shipping")


async def settled(connection: NatsConnection, streams: Streams, durable: str = "shipping-order_placed") -> None:
    """Return when JetStream has nothing more to deliver and knows the end of all that it has delivered."""
    async with asyncio.timeout(30):
        while True:
            info = await connection.jetstream.consumer_info(streams.name, durable)
            if not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(0.02)


async def dead(connection: NatsConnection, streams: Streams, count: int) -> list[DeadLetter]:
    """The dead letters, when there are so many."""
    async with asyncio.timeout(30):
        while len(letters := await DeadLetters(connection.jetstream, streams).found()) < count:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    return letters


async def test_each_event_is_handled_once(connection: NatsConnection, streams: Streams, telemetry: Telemetry) -> None:
    """Each event is handled once, those of other types by their own handlers."""
    orders, cancelled = Seen(), Seen()
    handlers = {PLACED: orders, "order.cancelled": cancelled}
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, handlers):
        await send(delivery, *(placed(number) for number in range(100)))
        await send(delivery, placed(100, type_="order.cancelled"), placed(101, type_="order.paid"))
        await eventually(lambda: len(orders.ids) + len(cancelled.ids) >= 101)
        await settled(connection, streams)
    assert sorted(orders.ids) == sorted(f"event-{number}" for number in range(100))
    assert cancelled.ids == ["event-100"]


async def test_event_is_as_it_was_sent(connection: NatsConnection, streams: Streams, telemetry: Telemetry) -> None:
    """What a handler gets is the event that was sent."""
    seen, event = Seen(), with_context(placed(1, subject="Müller & Söhne"))
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, event)
        await eventually(lambda: bool(seen.events))
    assert seen.events == [event]


async def test_replicas_share_the_work(connection: NatsConnection, streams: Streams, recorder: Recorder) -> None:
    """Of two replicas each gets events, and no event goes to both."""
    both = asyncio.Event()

    async def wait(_: Event) -> None:
        if one.events and two.events:
            both.set()
        await both.wait()

    one, two = Seen(wait), Seen(wait)
    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, recorder.telemetry("one"), {PLACED: one}, concurrency=4),
        consuming(connection, streams, recorder.telemetry("two"), {PLACED: two}, concurrency=4),
    ):
        await send(delivery, *(placed(number) for number in range(40)))
        await eventually(lambda: len(one.ids) + len(two.ids) >= 40)
        await settled(connection, streams)
    assert len({*one.ids, *two.ids}) == len(one.ids) + len(two.ids) == 40


async def test_services_each_get_all(connection: NatsConnection, streams: Streams, recorder: Recorder) -> None:
    """Each of two services gets every event."""
    one, two = Seen(), Seen()
    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, recorder.telemetry("one"), {PLACED: one}, name="one"),
        consuming(connection, streams, recorder.telemetry("two"), {PLACED: two}, name="two"),
    ):
        await send(delivery, *(placed(number) for number in range(5)))
        await eventually(lambda: len(one.ids) == len(two.ids) == 5)


async def test_events_from_before_the_first_start(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """A service that starts for the first time gets the events that are there."""
    seen = Seen()
    async with sending(connection, streams) as delivery:
        await send(delivery, placed(1))
    async with consuming(connection, streams, telemetry, {PLACED: seen}):
        await eventually(lambda: seen.ids == ["event-1"])


async def test_order_of_a_subject(connection: NatsConnection, streams: Streams, telemetry: Telemetry) -> None:
    """Events of one subject are handled one after the other in their order, while others are handled too."""
    now: Counter[str] = Counter()
    at_once: list[int] = []

    async def work(event: Event) -> None:
        now[event.subject] += 1
        assert now[event.subject] == 1
        at_once.append(now.total())
        await asyncio.sleep(0.001)
        now[event.subject] -= 1

    seen = Seen(work)
    async with sending(connection, streams) as delivery:
        await send(delivery, *(placed(number, subject=f"order-{number % 5}") for number in range(100)))
        async with consuming(connection, streams, telemetry, {PLACED: seen}):
            await eventually(lambda: len(seen.ids) == 100)
    for subject in range(5):
        numbers = [int(one.id.removeprefix("event-")) for one in seen.events if one.subject == f"order-{subject}"]
        assert numbers == sorted(numbers)
    assert max(at_once) > 1


async def test_what_all_have_applied_makes_room(
    connection: NatsConnection, streams: Streams, recorder: Recorder
) -> None:
    """More events than a stream has room for go through it, since it drops what all consumers have applied."""
    small = dataclasses.replace(streams, max_bytes=30_000)
    quick, late = Seen(), Seen()
    events = [placed(number) for number in range(200)]
    async with sending(connection, small) as delivery:
        async with consuming(connection, small, recorder.telemetry("late"), {PLACED: late}, name="late"):
            await send(delivery, events[0])
            await eventually(lambda: len(late.ids) == 1)
        async with consuming(connection, small, recorder.telemetry("quick"), {PLACED: quick}, name="quick"):
            rest = asyncio.create_task(send(delivery, *events[1:]))
            async with asyncio.timeout(30):
                while (await connection.jetstream.stream_info(small.name)).state.bytes < 29_000:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert not rest.done()
            async with consuming(connection, small, recorder.telemetry("late too"), {PLACED: late}, name="late"):
                await rest
                await eventually(lambda: len(set(quick.ids)) == len(set(late.ids)) == 200)


async def test_no_more_at_once_than_there_is_room_for(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """So many events as a consumer has room for are handled at once, and no more are fetched."""
    now, most = 0, 0

    async def work(_: Event) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1

    seen = Seen(work)
    async with sending(connection, streams) as delivery:
        await send(delivery, *(placed(number) for number in range(60)))
        async with consuming(connection, streams, telemetry, {PLACED: seen}, concurrency=4):
            await eventually(lambda: len(seen.ids) == 60)
    assert most == 4


async def test_always_failing_event_dies_alone(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry, recorder: Recorder
) -> None:
    """An event that always fails is tried so often as is allowed and then a dead letter; others are handled."""

    async def fail(event: Event) -> None:
        if event.id == "event-1":
            raise Refused("no such address")

    seen = Seen(fail)
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, placed(1), placed(2))
        (letter,) = await dead(connection, streams, 1)
        await settled(connection, streams)
    assert Counter(seen.ids) == {"event-1": 3, "event-2": 1}
    assert (letter.id, letter.type, letter.subject) == ("event-1", PLACED, "order-1")
    assert (letter.consumer, letter.reason, letter.attempts) == ("shipping", "no such address", 3)
    (point,) = recorder.metrics("shipping")["clearspan.event.dead_letters"]
    assert point.value == 1


async def test_refused_for_good_dies_at_once(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """An event that is refused for good is tried once."""

    async def fail(_: Event) -> None:
        raise Refused("never", final=True)

    seen = Seen(fail)
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, placed(1))
        (letter,) = await dead(connection, streams, 1)
        await settled(connection, streams)
    assert (seen.ids, letter.attempts) == (["event-1"], 1)


async def test_what_is_no_event_is_a_dead_letter(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """Messages that are no events become dead letters at once, whatever they are, and events after them are handled."""
    seen = Seen()
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        publish, subject = connection.jetstream.publish, streams.subject(PLACED)
        await publish(subject, b"\xff\x00")
        await publish(subject, b"", headers={"Status": "404", "x": "ä"})
        await publish(subject, b"x" * 65_000, headers={"ce-specversion": "1.0", "content-type": "application/json"})
        await send(delivery, placed(1))
        letters = await dead(connection, streams, 3)
        await settled(connection, streams)
    assert seen.ids == ["event-1"]
    assert [letter.attempts for letter in letters] == [1, 1, 1]


async def test_outage_counts_as_nothing(connection: NatsConnection, streams: Streams, telemetry: Telemetry) -> None:
    """While no event can be applied, one is tried in its place more often than it may fail, and does not die."""

    async def away(_: Event) -> None:
        if len(seen.ids) <= 2 * QUICK.max_deliveries:
            raise Unavailable("the database is away")

    seen = Seen(away)
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, placed(1))
        await eventually(lambda: len(seen.ids) > 2 * QUICK.max_deliveries)
        await settled(connection, streams)
        info = await connection.jetstream.consumer_info(streams.name, "shipping-order_placed")
        assert info.delivered is not None
        assert info.delivered.consumer_seq == 1
        assert await DeadLetters(connection.jetstream, streams).found() == []


async def test_outage_without_end_is_a_failure(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """An event that can never be applied for want of the service does not hold its place for ever."""

    async def away(_: Event) -> None:
        raise Unavailable("the database is away")

    seen, patience = Seen(away), dataclasses.replace(QUICK, outage_s=0)
    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, telemetry, {PLACED: seen}, patience=patience),
    ):
        await send(delivery, placed(1))
        (letter,) = await dead(connection, streams, 1)
    assert (letter.reason, len(seen.ids)) == ("the database is away", 3)


async def test_handler_longer_than_the_wait_for_its_ack(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry
) -> None:
    """An event is delivered once however long it is worked on, or waits for the one before it."""

    async def slow(_: Event) -> None:
        await asyncio.sleep(0.7)

    seen, patience = Seen(slow), dataclasses.replace(QUICK, ack_wait_s=0.3)
    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, telemetry, {PLACED: seen}, patience=patience),
    ):
        await send(delivery, placed(1, subject="one"), placed(2, subject="one"), placed(3))
        await eventually(lambda: len(seen.ids) >= 3)
        await settled(connection, streams)
    assert sorted(seen.ids) == ["event-1", "event-2", "event-3"]


async def test_stopping_gives_back_what_waits(connection: NatsConnection, streams: Streams, recorder: Recorder) -> None:
    """A replica that stops ends what it works on, and gives back the rest at once rather than when its time is up."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(_: Event) -> None:
        begun.set()
        await go.wait()

    first, second, patience = Seen(wait), Seen(), Patience()
    async with sending(connection, streams) as delivery:
        await send(delivery, placed(1, subject="one"), placed(2, subject="one"))
        async with consuming(connection, streams, recorder.telemetry("a"), {PLACED: first}, patience=patience):
            await begun.wait()
            asyncio.get_running_loop().call_later(0.1, go.set)
        async with consuming(connection, streams, recorder.telemetry("b"), {PLACED: second}, patience=patience):
            await eventually(lambda: second.ids == ["event-2"], timeout_s=20)
    assert first.ids == ["event-1"]


async def test_handler_that_does_not_end_is_cancelled_at_the_stop(
    connection: NatsConnection, streams: Streams, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that does not end when the service stops is cancelled, and its event is someone else's at once."""
    monkeypatch.setattr("observability.events.nats.pull.STOP_TIMEOUT_S", 0.1)

    async def hang(_: Event) -> None:
        await asyncio.Event().wait()

    first, second, patience = Seen(hang), Seen(), Patience()
    async with sending(connection, streams) as delivery:
        await send(delivery, placed(1))
        async with consuming(connection, streams, recorder.telemetry("a"), {PLACED: first}, patience=patience):
            await eventually(lambda: bool(first.ids))
        async with consuming(connection, streams, recorder.telemetry("b"), {PLACED: second}, patience=patience):
            await eventually(lambda: second.ids == ["event-1"], timeout_s=20)


@pytest.mark.parametrize("what", ["durable", "stream"])
async def test_what_the_server_forgot_is_made_again(
    connection: NatsConnection, streams: Streams, telemetry: Telemetry, what: str
) -> None:
    """A durable consumer or a stream that is gone is made again, and events go on."""
    seen = Seen()
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, placed(1))
        await eventually(lambda: seen.ids == ["event-1"])
        await settled(connection, streams)
        if what == "durable":
            await connection.jetstream.delete_consumer(streams.name, "shipping-order_placed")
        else:
            await connection.jetstream.delete_stream(streams.name)
        await send(delivery, placed(2))
        await eventually(lambda: "event-2" in seen.ids)


async def test_dead_letter_is_tried_again_where_it_died(
    connection: NatsConnection, streams: Streams, recorder: Recorder
) -> None:
    """A dead letter that is tried again goes to the consumer it died in alone, and is no dead letter any more."""
    well = False

    async def fail(_: Event) -> None:
        if not well:
            raise Refused("not yet", final=True)

    shipping, billing = Seen(fail), Seen()
    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, recorder.telemetry("shipping"), {PLACED: shipping}),
        consuming(connection, streams, recorder.telemetry("billing"), {PLACED: billing}, name="billing"),
    ):
        await send(delivery, placed(1), placed(2))
        await dead(connection, streams, 2)
        assert await DeadLetters(connection.jetstream, streams).retry("event-1") == 1  # and dies again
        await eventually(lambda: len(shipping.ids) == 3)
        assert {letter.id for letter in await dead(connection, streams, 2)} == {"event-1", "event-2"}
        well = True
        assert await DeadLetters(connection.jetstream, streams).retry() == 2
        await eventually(lambda: len(shipping.ids) == 5)
        await settled(connection, streams)
        await settled(connection, streams, "billing-order_placed")
        assert await DeadLetters(connection.jetstream, streams).found() == []
    assert Counter(shipping.ids) == {"event-1": 3, "event-2": 2}
    assert sorted(billing.ids) == ["event-1", "event-2"]
    assert shipping.events[-1] in (placed_again(shipping, 1), placed_again(shipping, 2))


def placed_again(seen: Seen, number: int) -> Event:
    """The event as it came the first time."""
    return next(event for event in seen.events if event.id == f"event-{number}")


async def test_dead_letter_is_dropped(connection: NatsConnection, streams: Streams, telemetry: Telemetry) -> None:
    """A dead letter that somebody drops is gone, and others are not."""

    async def fail(_: Event) -> None:
        raise Refused("never", final=True)

    async with (
        sending(connection, streams) as delivery,
        consuming(connection, streams, telemetry, {PLACED: Seen(fail)}),
    ):
        await send(delivery, placed(1), placed(2))
        await dead(connection, streams, 2)
        assert await DeadLetters(connection.jetstream, streams).discard("event-1") == 1
        assert await DeadLetters(connection.jetstream, streams).discard("event-1") == 0
        (letter,) = await DeadLetters(connection.jetstream, streams).found()
    assert letter.id == "event-2"
    assert letter.age_s >= 0


async def test_no_streams_have_no_dead_letters(connection: NatsConnection, streams: Streams) -> None:
    """Where nothing was ever sent there are no dead letters."""
    assert await DeadLetters(connection.jetstream, streams).found() == []
    assert await DeadLetters(connection.jetstream, streams).retry() == 0


async def test_trace(connection: NatsConnection, streams: Streams, telemetry: Telemetry, recorder: Recorder) -> None:
    """A delivery is a child of the span in which the event came to be and linked to it; without one it has a trace."""
    seen = Seen()
    async with sending(connection, streams) as delivery, consuming(connection, streams, telemetry, {PLACED: seen}):
        await send(delivery, with_context(placed(1)))
        await eventually(lambda: len(recorder.spans) == 1)
        await send(delivery, placed(2))
        await eventually(lambda: len(recorder.spans) == 2)
    child, root = recorder.spans
    assert child.parent is not None
    assert (child.context.trace_id, child.parent.span_id) == (0xABC, 0xDEF)
    assert [(link.context.trace_id, link.context.span_id) for link in child.links] == [(0xABC, 0xDEF)]
    assert root.parent is None
    assert list(root.links) == []
    assert root.context.trace_id != 0xABC
    assert (child.attributes or {})["messaging.system"] == "nats"
