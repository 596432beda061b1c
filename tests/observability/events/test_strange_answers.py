"""Answers to events in which others have written what they like."""

from __future__ import annotations

import httpx
import pytest
from pydantic import AnyHttpUrl
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.events.http import HttpDelivery
from observability.events.outbox import Outbox
from observability.events.relay import Relay
from observability.testing import Recorder
from tests.observability.events.conftest import an_event, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("character", [r"\u0000", r"\ud800"])
async def test_text_that_no_database_takes(engine: AsyncEngine, recorder: Recorder, character: str) -> None:
    """An answer whose text cannot be stored refuses its event like any other, and holds up no other event."""
    telemetry = recorder.telemetry("shop")
    outbox = Outbox(engine, "shop", telemetry)
    arrived: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.add(request.headers["ce-subject"])
        refused = f'{{"detail": "a{character}b"}}'.encode()
        return httpx.Response(500 if arrived == {"a"} else 204, stream=httpx.ByteStream(refused))

    url, transport = AnyHttpUrl("http://shop"), httpx.MockTransport(answer)
    delivery = HttpDelivery({"shop": url}, {"order.placed": ["shop"]}, "token", {"shop": transport})
    async with Relay(outbox, delivery, telemetry).running():
        async with engine.begin() as connection:
            await outbox.add(connection, an_event("a"))
        await until(lambda: arrived == {"a"})
        async with engine.begin() as connection:
            await outbox.add(connection, an_event("b"))
        await until(lambda: arrived == {"a", "b"})
    assert [one.reason for one in await outbox.unsent(10)] in ([], ["shop answered 500: a\N{REPLACEMENT CHARACTER}b"])
