"""What goes wrong in a call, as the shop's errors."""

from __future__ import annotations

import httpx
import pytest

from observability.testing import Recorder
from service.errors import DependencyError, DependencyFailed, DependencySlow
from service.orders.clients import HttpExternal, HttpInventory, create_client

pytestmark = pytest.mark.anyio


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
    async with create_client("http://inventory", recorder.telemetry("orders"), _fails(error)) as client:
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
    async with create_client("", recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencyFailed):
            await HttpExternal(client, "http://external/").fetch()


@pytest.mark.parametrize("answer", [{}, [], {"amount": "1", "currency": "EUR"}, {"amount": 1, "currency": None}])
async def test_inventory_nonsense(recorder: Recorder, answer: object) -> None:
    """An answer of inventory without an amount and its currency is its failure."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    async with create_client("http://inventory", recorder.telemetry("orders"), transport) as client:
        with pytest.raises(DependencyFailed):
            await HttpInventory(client).reserve("1", "mug", 1)
