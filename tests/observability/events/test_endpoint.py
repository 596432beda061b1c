"""Events over HTTP: who takes them, and who delivers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import AnyHttpUrl, BaseModel
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import observe
from observability.events import consumer as consumer_module
from observability.events.consumer import Consumer
from observability.events.delivery import Refused, Unavailable
from observability.events.endpoint import EventIntake
from observability.events.event import Event, to_message
from observability.events.http import HttpDelivery
from observability.events.inbox import Inbox
from observability.limits import MAX_BODY_BYTES
from observability.providers import Telemetry
from observability.resilience.transport import AiohttpTransport
from observability.testing import Recorder, client_for, running, transport_for
from tests.observability.events.conftest import an_event
from tests.serving import serving

pytestmark = pytest.mark.anyio

TOKEN = "secret"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Order(BaseModel):
    """The data of the events here."""

    number: int = 0


class Shop:
    """A service that applies events, or fails as it is told."""

    def __init__(self, engine: AsyncEngine, telemetry: Telemetry, token: str | None = TOKEN) -> None:
        self.applied: list[str] = []
        self.error: Exception | None = None
        self._engine = engine
        self._inbox = Inbox(engine, "shop", telemetry)
        self.app = FastAPI()
        consumer = Consumer("shop", {"order.placed": self._apply}, telemetry)
        observe(self.app, telemetry, inbound_context="link", events=EventIntake(consumer, token))

    async def _apply(self, event: Event) -> None:
        Order.model_validate_json(event.data)
        if isinstance(self.error, asyncio.TimeoutError):
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        async with self._engine.begin() as connection:
            if await self._inbox.accept(connection, event):
                self.applied.append(event.id)


@pytest.fixture
async def shop(sqlite_engine: AsyncEngine, recorder: Recorder) -> AsyncIterator[Shop]:
    """A service at a public edge that is running."""
    shop = Shop(sqlite_engine, recorder.telemetry("shop"))
    async with running(shop.app):
        yield shop


async def _post(
    shop: Shop, event: Event | None = None, *, token: str | None = TOKEN, body: bytes | None = None, **headers: str
) -> httpx.Response:
    told, data = to_message(event or an_event())
    told |= {"authorization": f"Bearer {token}"} if token is not None else {}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with client_for(shop.app) as client:
        return await client.post("/events", headers=told, content=data if body is None else body)


async def test_applied(shop: Shop) -> None:
    """An event that is applied, now or before, is answered with 204 and nothing more."""
    event = an_event()
    answers = [await _post(shop, event) for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b""), (204, b"")]
    assert shop.applied == [event.id]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "!", "Bearer"])
async def test_strangers(shop: Shop, token: str | None) -> None:
    """Who does not know the token is answered 401, and nothing is done."""
    answer = await _post(shop, token=token)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert shop.applied == []


async def test_two_tokens(shop: Shop) -> None:
    """Two tokens are none."""
    headers, body = to_message(an_event())
    credentials = [("authorization", f"Bearer {TOKEN}")] * 2
    async with client_for(shop.app) as client:
        answer = await client.post("/events", headers=[*headers.items(), *credentials], content=body)
    assert answer.status_code == 401


@pytest.mark.parametrize("configured", [None, ""])
@pytest.mark.parametrize("token", [None, "", "None", TOKEN])
async def test_no_token(
    sqlite_engine: AsyncEngine, recorder: Recorder, configured: str | None, token: str | None
) -> None:
    """Where no token is configured nobody may deliver events."""
    shop = Shop(sqlite_engine, recorder.telemetry("shop"), configured)
    async with running(shop.app):
        assert (await _post(shop, token=token)).status_code == 401
    assert shop.applied == []


async def test_what_else_is_asked_for(shop: Shop) -> None:
    """All but a POST to the endpoint is the application's own."""
    async with client_for(shop.app) as client:
        assert (await client.get("/events")).status_code == 404
        assert (await client.post("/events/1")).status_code == 404


async def test_not_an_event(shop: Shop) -> None:
    """What is no event is answered 400, with what is wrong."""
    answer = await _post(shop, ce_specversion="0.3")
    assert answer.status_code == 400
    assert "specversion" in answer.json()["detail"]


async def test_too_large(shop: Shop) -> None:
    """A body that is too large is answered 413."""
    assert (await _post(shop, body=b"{" + b" " * MAX_BODY_BYTES)).status_code == 413
    assert (await _post(shop, body=b"{" + b" " * (MAX_BODY_BYTES - 2) + b"}")).status_code == 204


async def test_too_many_headers(shop: Shop) -> None:
    """Headers beyond the bounds are answered 431, as for any other request."""
    assert (await _post(shop, x="x" * 20_000)).status_code == 431


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (Refused("not this one"), 500, "not this one"),
        (Refused("never", final=True), 422, "never"),
        (Unavailable("closed"), 503, "closed"),
        (NoConnectionError(), 503, "the database has more to do than it can"),
        (ZeroDivisionError("secret"), 500, "applying it failed (ZeroDivisionError)"),
        (TimeoutError(), 500, "not applied within 0.01 s"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_not_applied(
    shop: Shop, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, *, error: Exception, status: int, detail: str
) -> None:
    """An event that is not applied is answered by what that means for it and for others, and told once at most."""
    monkeypatch.setattr(consumer_module, "HANDLER_TIMEOUT_S", 0.01)
    shop.error = error
    answer = await _post(shop)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert ("retry-after" in answer.headers) is (status == 503)
    errors = [record for record in recorder.logs if record.log_record.severity_text == "ERROR"]
    assert len(errors) == isinstance(error, ZeroDivisionError)
    assert "secret" not in answer.text


async def test_wrong_data(shop: Shop) -> None:
    """Data that are not as expected are answered 422, with where they are wrong and without what they are."""
    for body, where in ((b'{"number": "secret"}', "number"), (b"\xff", "data")):
        answer = await _post(shop, body=body)
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"not as expected in the data of this event: {where}"


async def test_unknown_type(shop: Shop) -> None:
    """A type that nobody takes is answered 422."""
    assert (await _post(shop, an_event(type="order.lost"))).status_code == 422


async def test_trace(shop: Shop, recorder: Recorder) -> None:
    """Even at a public edge the trace of an event goes on: of who knows the token it is believed."""
    event = Event("order.placed", "/orders", "1", b"{}", id="7", traceparent=TRACEPARENT)
    await _post(shop, event, traceparent="00-11111111111111111111111111111111-2222222222222222-01")
    (span,) = recorder.spans
    assert span.name == "process order.placed"
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}-{span.parent.span_id:016x}" in TRACEPARENT
    assert [link.context.span_id for link in span.links] == [span.parent.span_id]
    assert dict(span.attributes or {}) == {
        "messaging.system": "http",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "order.placed",
        "messaging.message.id": "7",
        "messaging.consumer.group.name": "shop",
    }


async def test_no_trace(shop: Shop, recorder: Recorder) -> None:
    """An event that comes without a trace begins one, whatever trace the delivery tells of."""
    await _post(shop, traceparent=TRACEPARENT)
    (span,) = recorder.spans
    assert span.parent is None
    assert not span.links


async def test_span_of_a_failure(shop: Shop, recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """The span of an event that could not be applied says why, and the log line is within it."""
    shop.error = ZeroDivisionError()
    await _post(shop)
    (span,) = recorder.spans
    assert (span.attributes or {})["error.type"] == "Refused"
    (told,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert told.getMessage() == "applying an event failed"
    (point,) = recorder.metrics("shop")["messaging.client.consumed.messages"]
    assert point.attributes["error.type"] == "Refused"


async def test_delivery(shop: Shop) -> None:
    """What is delivered over HTTP is applied, and may be delivered again."""
    urls = {"shop": AnyHttpUrl("http://shop")}
    delivery = HttpDelivery(urls, {"order.placed": ["shop"]}, TOKEN, {"shop": transport_for(shop.app)})
    event = an_event("Łódź %")
    await delivery.send(event)
    await delivery.send(event)
    assert shop.applied == [event.id]


async def test_delivery_through_sockets(shop: Shop) -> None:
    """So it is through a real server and a real client."""
    async with serving(shop.app) as server, AiohttpTransport() as transport:
        urls = {"shop": AnyHttpUrl(f"http://127.0.0.1:{server.port}")}
        delivery = HttpDelivery(urls, {"order.placed": ["shop"]}, TOKEN, {"shop": transport})
        event = an_event("Łódź " + "€" * 200)
        await delivery.send(event)
        shop.error = Refused("never", final=True)
        with pytest.raises(Refused, match="shop answered 422: never"):
            await delivery.send(an_event())
    assert shop.applied == [event.id]
