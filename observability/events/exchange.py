"""What a service needs to tell events and to be told some, put together; the one place that knows how they travel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import httpx
from pydantic import AnyHttpUrl

from observability.events.backlog import watched
from observability.events.consumer import Consumer
from observability.events.delivery import Delivery
from observability.events.http import MAX_IN_FLIGHT, HttpDelivery
from observability.events.inbox import Inbox
from observability.events.notifications import notifications
from observability.events.outbox import Outbox
from observability.events.pruning import pruned
from observability.events.relay import Relay
from observability.providers import Telemetry
from observability.resilience.transport import AiohttpTransport


@dataclass(frozen=True, slots=True)
class Routes:
    """How events reach their consumers where there is no broker.

    Attributes:
        urls: Where each consumer is, by its name.
        subscriptions: The names of those who consume it, by an event's type.
        token: What proves to a consumer that a delivery is from one of its own; without it no consumer takes any.
        transports: How to reach a consumer, in the place of the network.
    """

    urls: Mapping[str, AnyHttpUrl]
    subscriptions: Mapping[str, Sequence[str]]
    token: str | None = field(repr=False)
    transports: Mapping[str, httpx.AsyncBaseTransport] = field(default_factory=dict)


@asynccontextmanager
async def exchange(
    outbox: Outbox, inbox: Inbox, consumer: Consumer, telemetry: Telemetry, way: Routes | str
) -> AsyncIterator[None]:
    """Deliver a service's events, have it told those that it consumes, and keep its tables small, around a block.

    Args:
        outbox: Has the service's events.
        inbox: Knows those that it has applied.
        consumer: Applies those that it is told; without a broker by its `EventEndpoint`.
        telemetry: Is told of all that.
        way: The broker's URL, `nats://`, or how events travel without one.

    Raises:
        ValueError: The URL is none of a broker that is known here.
    """
    async with AsyncExitStack() as stack:
        # The last one ends first: no more events come in, those that this has led to go out, and what is told is told.
        await stack.enter_async_context(watched(outbox, telemetry))
        await stack.enter_async_context(pruned(outbox, inbox))
        delivery: Delivery
        intake: AbstractAsyncContextManager[None]
        if isinstance(way, Routes):
            delivery, intake = await stack.enter_async_context(_http(way)), nullcontext()  # requests bring them
        else:
            delivery, intake = await stack.enter_async_context(_nats(way, outbox, consumer, telemetry))
        relay = Relay(outbox, delivery, telemetry)
        await stack.enter_async_context(relay.running())
        if outbox.engine.dialect.name == "postgresql":
            await stack.enter_async_context(notifications(outbox.engine, outbox.channel, relay.wake))
        await stack.enter_async_context(intake)
        yield


@asynccontextmanager
async def _http(routes: Routes) -> AsyncIterator[Delivery]:
    async with AiohttpTransport(max_connections=MAX_IN_FLIGHT) as network:
        transports = {name: routes.transports.get(name, network) for name in routes.urls}
        yield HttpDelivery(routes.urls, routes.subscriptions, routes.token, transports)


@asynccontextmanager
async def _nats(
    url: str, outbox: Outbox, consumer: Consumer, telemetry: Telemetry
) -> AsyncIterator[tuple[Delivery, AbstractAsyncContextManager[None]]]:
    # Only who has a broker needs its library.
    from observability.events.nats.connection import NatsConnection  # noqa: PLC0415
    from observability.events.nats.consumer import NatsConsumer  # noqa: PLC0415
    from observability.events.nats.delivery import NatsDelivery  # noqa: PLC0415
    from observability.events.nats.streams import Streams  # noqa: PLC0415

    streams = Streams()
    async with NatsConnection(url, outbox.service_name) as connection:
        delivery = NatsDelivery(connection, streams, outbox.send_again)
        async with delivery.running():
            yield delivery, NatsConsumer(connection, streams, consumer, telemetry).running()
