"""What a service needs to tell events and to be told some, put together; the one place that knows how they travel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
from pydantic import AnyHttpUrl

from observability.events.backlog import watched
from observability.events.consumer import Consumer
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
    outbox: Outbox,
    inbox: Inbox,
    consumer: Consumer,  # noqa: ARG001 - a broker's, which is to come
    telemetry: Telemetry,
    routes: Routes,
) -> AsyncIterator[None]:
    """Deliver a service's events, have it told those that it consumes, and keep its tables small, around a block."""
    async with AsyncExitStack() as stack:
        # The last one ends first: no more events come in, then none go out, then nothing is to be measured any more.
        await stack.enter_async_context(watched(outbox, telemetry))
        await stack.enter_async_context(pruned(outbox, inbox))
        network = await stack.enter_async_context(AiohttpTransport(max_connections=MAX_IN_FLIGHT))
        transports = {name: routes.transports.get(name, network) for name in routes.urls}
        relay = Relay(outbox, HttpDelivery(routes.urls, routes.subscriptions, routes.token, transports), telemetry)
        await stack.enter_async_context(relay.running())
        if outbox.engine.dialect.name == "postgresql":
            await stack.enter_async_context(notifications(outbox.engine, outbox.channel, relay.wake))
        yield
