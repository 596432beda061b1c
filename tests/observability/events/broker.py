"""What tests of events through NATS share: events, handlers that remember, and a service around them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from observability import Telemetry
from observability.events.consumer import Consumer, Handler
from observability.events.delivery import Unavailable
from observability.events.event import Event
from observability.events.nats.connection import NatsConnection
from observability.events.nats.consumer import NatsConsumer, Patience
from observability.events.nats.delivery import NatsDelivery
from observability.events.nats.streams import Streams

PLACED = "order.placed"

QUICK = Patience(max_deliveries=3, first_s=0.01, factor=2, most_s=0.05, ack_wait_s=1.0)

AGO = "00-00000000000000000000000000000abc-0000000000000def-01"


def placed(number: int, *, subject: str | None = None, type_: str = PLACED) -> Event:
    """An event with an id of its own."""
    data = json.dumps({"number": number}).encode()
    return Event(type_, "/orders", subject or f"order-{number}", data, id=f"event-{number}")


@dataclass
class Seen:
    """A handler that remembers what it was given, and does with it what the test says."""

    then: Callable[[Event], Awaitable[None]] | None = None
    events: list[Event] = field(default_factory=list)

    async def __call__(self, event: Event) -> None:
        """Handle an event."""
        self.events.append(event)
        if self.then is not None:
            await self.then(event)

    @property
    def ids(self) -> list[str]:
        """The ids of the events, in the order in which they came."""
        return [event.id for event in self.events]


async def nothing_lost(since: float, until: float) -> None:
    """For a delivery without an outbox."""


async def eventually(so: Callable[[], bool], *, timeout_s: float = 30) -> None:
    """Return when something is so, which it has to be soon."""
    async with asyncio.timeout(timeout_s):
        while not so():  # noqa: ASYNC110 - whatever it asks about tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sending(
    connection: NatsConnection,
    streams: Streams,
    on_lost: Callable[[float, float], Awaitable[object]] = nothing_lost,
) -> AsyncIterator[NatsDelivery]:
    """A delivery that has been looked after at least once."""
    delivery = NatsDelivery(connection, streams, on_lost, ack_timeout_s=2)
    async with delivery.running():
        await eventually(lambda: delivery._born_at is not None)
        yield delivery


async def send(delivery: NatsDelivery, *events: Event) -> None:
    """Send events, each until it is taken."""
    for event in events:
        async with asyncio.timeout(30):
            while True:
                try:
                    await delivery.send(event)
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def consuming(
    connection: NatsConnection,
    streams: Streams,
    telemetry: Telemetry,
    handlers: Mapping[str, Handler],
    *,
    name: str = "shipping",
    patience: Patience = QUICK,
    concurrency: int = 32,
) -> AsyncIterator[NatsConsumer]:
    """A service's consumer."""
    consumer = NatsConsumer(
        connection,
        streams,
        Consumer(name, handlers, telemetry),
        telemetry,
        patience=patience,
        concurrency=concurrency,
        ask_s=1.0,
    )
    async with consumer.running():
        yield consumer


@asynccontextmanager
async def service(
    url: str, streams: Streams, telemetry: Telemetry, handler: Handler, *, patience: Patience = QUICK
) -> AsyncIterator[NatsDelivery]:
    """A service that sends events and takes those of type `order.placed`, by one connection."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(NatsConnection(url, "test"))
        delivery = await stack.enter_async_context(sending(connection, streams))
        handlers = {PLACED: handler}
        await stack.enter_async_context(consuming(connection, streams, telemetry, handlers, patience=patience))
        yield delivery


def with_context(event: Event) -> Event:
    """The event as it came to be in a trace."""
    return dataclasses.replace(event, traceparent=AGO)
