"""What a service needs to tell events, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from pydantic import AnyHttpUrl
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import observe
from observability.events.consumer import Consumer
from observability.events.endpoint import EventIntake
from observability.events.event import Event
from observability.events.exchange import Routes, exchange
from observability.events.inbox import Inbox
from observability.events.outbox import Backlog, Outbox
from observability.testing import Recorder, running, transport_for
from tests.observability.events.conftest import an_event

pytestmark = pytest.mark.anyio


class Shipping:
    """The service that consumes."""

    def __init__(self, recorder: Recorder) -> None:
        self.applied: asyncio.Queue[str] = asyncio.Queue()
        telemetry = recorder.telemetry("shipping")
        consumer = Consumer("shipping", {"order.placed": self._apply}, telemetry)
        self.app = FastAPI()
        observe(self.app, telemetry, events=EventIntake(consumer, "secret"))

    async def _apply(self, event: Event) -> None:
        await self.applied.put(event.id)


@pytest.fixture
async def shipping(recorder: Recorder) -> AsyncIterator[Shipping]:
    """It is running."""
    shipping = Shipping(recorder)
    async with running(shipping.app):
        yield shipping


async def test_from_one_service_to_another(engine: AsyncEngine, recorder: Recorder, shipping: Shipping) -> None:
    """What one service commits another one applies, within one trace; and the stop waits for what is under way."""
    telemetry = recorder.telemetry("shop")
    outbox, inbox = Outbox(engine, "shop", telemetry), Inbox(engine, "shop", telemetry)
    routes = Routes(
        {"shipping": AnyHttpUrl("http://shipping")},
        {"order.placed": ["shipping"]},
        "secret",
        {"shipping": transport_for(shipping.app)},
    )
    others = asyncio.all_tasks()
    async with exchange(outbox, inbox, Consumer("shop", {}, telemetry), telemetry, routes):
        with telemetry.tracer_provider.get_tracer("test").start_as_current_span("request"):
            async with engine.begin() as connection:
                event = await outbox.add(connection, an_event())
        assert await shipping.applied.get() == event.id
    assert asyncio.all_tasks() == others
    assert await outbox.backlog() == Backlog(0, 0.0, 0)
    assert recorder.tree(attributes=[], logs=False).splitlines() == [
        "trace 1",
        "  shop INTERNAL request",
        "    shop PRODUCER create order.placed",
        "      shop INTERNAL wait order.placed",
        "      shop CLIENT send order.placed",
        "      shipping CONSUMER process order.placed -> shop create order.placed",
    ]
    assert "secret" not in repr(routes)
