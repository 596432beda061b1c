"""What goes wrong in a call, as the shop's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import AnyHttpUrl

from observability.resilience.client import create_client
from observability.testing import Recorder
from service.errors import (
    Conflict,
    DependencyError,
    DependencyFailed,
    DependencySlow,
    DependencyUnavailable,
    NotFound,
    OutOfStock,
    PaymentDeclined,
    ShopError,
)
from service.orders import clients
from service.orders.clients import HttpExternal, HttpInventory, HttpPayments
from service.orders.orders import OrderRequest, Orders, Reserved
from tests.service.fakes import FakePayments, FakeStore
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

INVENTORY = clients.inventory(AnyHttpUrl("http://inventory"))
PAYMENTS = clients.payments(AnyHttpUrl("http://payments"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Timeouts and the waits between attempts take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def _fails(error: type[httpx.TransportError]) -> httpx.MockTransport:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request)

    return httpx.MockTransport(handler)


@pytest.mark.parametrize(
    ("error", "kind", "sent"),
    [
        (httpx.ConnectError, DependencyFailed, False),
        (httpx.ConnectTimeout, DependencySlow, False),
        (httpx.PoolTimeout, DependencySlow, False),
        (httpx.ReadTimeout, DependencySlow, True),
        (httpx.RemoteProtocolError, DependencyFailed, True),
    ],
)
async def test_transport_errors(
    recorder: Recorder, error: type[httpx.TransportError], kind: type[DependencyError], sent: bool
) -> None:
    """Slow is told from unreachable, and what was never sent from what may have been done."""
    async with create_client(INVENTORY, recorder.telemetry("orders"), _fails(error)) as client:
        with pytest.raises(kind) as caught:
            await HttpInventory(client).reserve("1", "mug", 1)
    assert caught.value.sent is sent


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, json={}),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text="NaN"),
        httpx.Response(200, text="1e999"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b" " * 2_000_000),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(200),
    ],
    ids=["error", "redirect", "html", "nan", "infinity", "nested", "long", "not utf-8", "empty"],
)
async def test_external_nonsense(recorder: Recorder, response: httpx.Response) -> None:
    """Whatever the external service answers instead of JSON is its failure, not ours."""
    transport = httpx.MockTransport(lambda _: response)
    async with create_client(clients.external(), recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencyFailed):
            await HttpExternal(client, "http://external/").fetch()


@pytest.mark.parametrize("answer", [{}, [], {"amount": "1", "currency": "EUR"}, {"amount": 1, "currency": None}])
async def test_inventory_nonsense(recorder: Recorder, answer: object) -> None:
    """An answer of inventory without an amount and its currency is its failure."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    async with create_client(INVENTORY, recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencyFailed):
            await HttpInventory(client).reserve("1", "mug", 1)


async def test_reserve(recorder: Recorder) -> None:
    """A reservation is asked for by the order's id and tells what it costs."""
    requests: list[tuple[str, str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path, request.content))
        return httpx.Response(200, json={"amount": 5, "currency": "EUR", "more": 1})

    async with create_client(INVENTORY, recorder.telemetry("orders"), httpx.MockTransport(answer)) as client:
        assert await HttpInventory(client).reserve("order-1", "mug", 2) == Reserved(5, "EUR")
    assert requests == [("PUT", "/reservations/order-1", b'{"sku":"mug","quantity":2}')]


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (404, "Not found", NotFound),
        (409, "Out of stock", OutOfStock),
        (409, "Conflict", Conflict),
        (422, "Invalid request", DependencyFailed),
        (500, "Internal server error", DependencyFailed),
    ],
)
async def test_inventory_problems(recorder: Recorder, status: int, title: str, kind: type[ShopError]) -> None:
    """Inventory's problems are the shop's errors; one that is not agreed on is its failure."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json={"title": title}))
    async with create_client(INVENTORY, recorder.telemetry("orders"), transport) as client:
        with pytest.raises(ShopError) as caught:
            await HttpInventory(client).reserve("1", "mug", 1)
    assert type(caught.value) is kind


async def test_refund(recorder: Recorder) -> None:
    """A refund is asked for by the order's id; an answer that is not agreed on is a failure of payments."""
    statuses, requests = [200, 404], list[tuple[str, str]]()

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path))
        return httpx.Response(statuses.pop(0), json={})

    async with create_client(PAYMENTS, recorder.telemetry("orders"), httpx.MockTransport(answer)) as client:
        await HttpPayments(client).refund("order-1")
        with pytest.raises(DependencyFailed):
            await HttpPayments(client).refund("order-1")
    assert requests == [("PUT", "/payments/order-1/refund")] * 2


@pytest.mark.parametrize(("status", "kind"), [(402, PaymentDeclined), (409, Conflict), (500, DependencyFailed)])
async def test_payment_statuses(recorder: Recorder, status: int, kind: type[ShopError]) -> None:
    """The statuses of payments are the shop's errors."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json={}))
    async with create_client(PAYMENTS, recorder.telemetry("orders"), transport) as client:
        with pytest.raises(kind):
            await HttpPayments(client).charge("1", 5, "EUR", "4242424242424242")


@pytest.mark.parametrize("status", [402, 404, 409])
async def test_answer_of_a_proxy(recorder: Recorder, status: int) -> None:
    """An error page that is not JSON is no answer of a service by its contract, and so no refusal to remember."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<html>"))
    async with create_client(INVENTORY, recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencyFailed):
            await HttpInventory(client).reserve("1", "mug", 1)
        with pytest.raises(DependencyFailed):
            await HttpPayments(client).charge("1", 5, "EUR", "4242424242424242")


@pytest.mark.parametrize("content", [b'{"a": 1}', b"[]", b"0", b"null", b'"\\ud800"', b'"\xc3\xa9"'])
async def test_external_json(recorder: Recorder, content: bytes) -> None:
    """Any JSON of the external service is passed on with the same meaning."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    async with create_client(clients.external(), recorder.telemetry("orders"), transport) as client:
        answer = await HttpExternal(client, "http://external/").fetch()
    assert httpx.Response(200, content=answer).json() == httpx.Response(200, content=content).json()


async def test_external_drips(recorder: Recorder) -> None:
    """An answer that never stops coming, each piece in time, is given up as a whole."""

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.5)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=drip()))
    async with create_client(clients.external(), recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencySlow):
            await HttpExternal(client, "http://external/").fetch()


async def test_left_alone(recorder: Recorder) -> None:
    """A dependency that failed too often is not asked, and the error says when to come again."""
    async with create_client(INVENTORY, recorder.telemetry("orders"), _fails(httpx.ConnectError)) as client:
        for _ in range(20):
            with pytest.raises(DependencyError):
                await HttpInventory(client).reserve("1", "mug", 1)
        with pytest.raises(DependencyUnavailable, match="inventory is not asked") as caught:
            await HttpInventory(client).reserve("1", "mug", 1)
    assert not caught.value.sent
    assert 0 < caught.value.wait_s <= 5


async def test_hanging_inventory(recorder: Recorder) -> None:
    """A customer whose goods cannot be set aside waits for that, and not for giving them back."""

    async def hang(_request: httpx.Request) -> httpx.Response:
        return await asyncio.Event().wait() and httpx.Response(200)

    loop = asyncio.get_running_loop()
    async with create_client(INVENTORY, recorder.telemetry("orders"), httpx.MockTransport(hang)) as client:
        orders = Orders(FakeStore(), HttpInventory(client), FakePayments())
        began = loop.time()
        with pytest.raises(DependencySlow):
            await orders.place(OrderRequest("mug", 1, "4242424242424242"))
    assert loop.time() - began == pytest.approx(clients.CALL_S)
