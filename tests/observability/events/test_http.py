"""What an answer over HTTP means for an event and for others."""

from __future__ import annotations

import httpx
import pytest
from pydantic import AnyHttpUrl

from observability.events.delivery import Refused, Unavailable
from observability.events.http import HttpDelivery
from tests.observability.events.conftest import an_event

pytestmark = pytest.mark.anyio

TOKEN = "secret"


def _answering(status: int, content: bytes = b"") -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, stream=httpx.ByteStream(content)))


def _delivery(transport: httpx.AsyncBaseTransport, *names: str) -> HttpDelivery:
    names = names or ("shop",)
    return HttpDelivery(
        {name: AnyHttpUrl(f"http://{name}") for name in names},
        {"order.placed": names},
        TOKEN,
        dict.fromkeys(names, transport),
    )


@pytest.mark.parametrize(
    ("status", "kind", "final"),
    [
        (400, Refused, True),
        (413, Refused, True),
        (422, Refused, True),
        (431, Refused, True),
        (500, Refused, False),
        (301, Unavailable, None),
        (401, Unavailable, None),
        (404, Unavailable, None),
        (429, Unavailable, None),
        (502, Unavailable, None),
        (503, Unavailable, None),
        (504, Unavailable, None),
    ],
)
async def test_answers(status: int, kind: type[Exception], *, final: bool | None) -> None:
    """What an answer says of the event refuses it; what it says of the consumer makes the type wait."""
    transport = _answering(status, b'{"title": "Title", "detail": "why"}')
    with pytest.raises(kind, match=f"shop answered {status}: why") as raised:
        await _delivery(transport).send(an_event())
    assert getattr(raised.value, "final", None) is final


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'"x"', b"{}", b"[" * 100_000, b"\xff", b"x" * 1_000_000])
async def test_answers_of_others(content: bytes) -> None:
    """An answer that is no problem of ours is taken by its status, however long or odd it is."""
    with pytest.raises(Unavailable) as raised:
        await _delivery(_answering(502, content)).send(an_event())
    assert str(raised.value) == "shop answered 502"


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.PoolTimeout])
async def test_network_errors(error: type[httpx.TransportError]) -> None:
    """A consumer that cannot be reached makes the type wait."""

    def fail(_request: httpx.Request) -> httpx.Response:
        raise error("secret address")

    with pytest.raises(Unavailable, match=f"^shop could not be reached \\({error.__name__}\\)$"):
        await _delivery(httpx.MockTransport(fail)).send(an_event())


async def test_several_consumers() -> None:
    """An event is delivered when each of its consumers has it, in their order, and not when one of them fails."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        return httpx.Response(503 if request.url.host == "b" else 204, stream=httpx.ByteStream(b""))

    delivery = _delivery(httpx.MockTransport(answer), "a", "b", "c")
    with pytest.raises(Unavailable, match="b answered 503"):
        await delivery.send(an_event())
    assert asked == ["http://a/events", "http://b/events"]


async def test_nobody_consumes_it() -> None:
    """An event that nobody consumes is refused for good."""
    with pytest.raises(Refused) as raised:
        await _delivery(_answering(204)).send(an_event(type="order.lost"))
    assert raised.value.final


@pytest.mark.parametrize("url", ["http://gateway/shop", "http://gateway/shop/"])
async def test_consumer_below_a_path(url: str) -> None:
    """An event goes below the consumer's URL, as all other requests do, also where that has a path of its own."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(204, stream=httpx.ByteStream(b""))

    transport = httpx.MockTransport(answer)
    delivery = HttpDelivery({"shop": AnyHttpUrl(url)}, {"order.placed": ["shop"]}, TOKEN, {"shop": transport})
    await delivery.send(an_event())
    assert asked == ["http://gateway/shop/events"]
