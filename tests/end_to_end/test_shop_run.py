"""What a newcomer sees: one order as one trace, nothing lost, and a shop that outlives its viewer."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import aiohttp
import httpx
import pytest

from observability import tree
from observability.jaeger import spans_of
from observability.launcher import BASE_PORT, PAGE_PORT
from observability.viewer.store import Store
from tests.running_shop import ROOT, RunningShop, running_shop

pytestmark = pytest.mark.anyio

StartShop = Callable[..., RunningShop]

REQUESTS, CONCURRENCY = 2000, 32


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A running shop for the tests that only look at what they have asked for."""
    with running_shop(tmp_path_factory.mktemp("shop"), {}) as shop:
        yield shop


async def _until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Look again and again until something is seen."""
    deadline = time.monotonic() + 20
    while not (seen := await look()):
        assert time.monotonic() < deadline, "not seen in time"
        await asyncio.sleep(0.02)
    return seen


async def _load(url: str, requests: int, during: Callable[[int], None] = lambda _: None) -> list[int]:
    """Ask for `url` at full concurrency; the statuses of all answers. `during` is told the number of each request."""
    statuses: list[int] = []
    numbers = iter(range(requests))

    # httpx would take more of the machine than the services that it asks.
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as client:

        async def work() -> None:
            for number in numbers:
                during(number)
                async with client.get(url) as answer:
                    await answer.read()
                    statuses.append(answer.status)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return statuses


def _draw(trace: dict[str, Any], logs: list[dict[str, Any]], folder: str) -> str:
    """A trace of Jaeger's API as a tree."""
    spans = [replace(span, name=span.name.replace(folder, "")) for span in spans_of(trace)]
    records = [
        tree.Log(
            trace_id=int(log["traceID"], 16),
            span_id=int(log["spanID"], 16),
            time=int(log["timeUnixNano"]),
            severity=log["severity"],
            body=log["body"].rsplit(" ", 2)[0] if " ms" in log["body"] else log["body"],
        )
        for log in logs
    ]
    return tree.render(spans, records, attributes=("http.response.status_code",))


async def test_order_is_one_trace(shop: RunningShop) -> None:
    """An order placed with curl is one trace over four processes, with its logs, in the viewer's API."""
    began_us = time.time_ns() // 1000
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.post(f"{shop.orders}/orders", json={"sku": "mug", "quantity": 2})
        assert answer.status_code == 201

        async def look() -> Any:
            query: dict[str, str | int] = {"service": "orders", "start": began_us}
            traces = (await client.get(f"{shop.pages}/api/traces", params=query)).json()["data"]
            if not traces or len(traces[0]["spans"]) < 28:
                return None
            logs = (await client.get(f"{shop.pages}/api/traces/{traces[0]['traceID']}/logs")).json()["data"]
            return (traces, logs) if len(logs) == 6 else None

        traces, logs = await _until(look)
    assert len(traces) == 1
    assert (
        _draw(traces[0], logs, f"{shop.data_dir}/")
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=201
    · INFO order placed
    · INFO POST /orders 201
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=200
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=200
        · INFO PUT /reservations/ORDER 200
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT PUT http.response.status_code=200
      payments SERVER PUT /payments/{order_id} http.response.status_code=200
        · INFO PUT /payments/ORDER 200
        payments CLIENT SELECT payments.db
        payments CLIENT INSERT payments.db
    orders CLIENT UPDATE orders.db
    orders PRODUCER create order.placed
      orders INTERNAL wait order.placed
      orders CLIENT INSERT orders.db
      orders CLIENT send order.placed
      shipping CONSUMER process order.placed
        · INFO shipment created
        shipping CLIENT INSERT shipping.db
        shipping CLIENT INSERT shipping.db
        shipping PRODUCER create shipment.created
          shipping INTERNAL wait shipment.created
          shipping CLIENT INSERT shipping.db
          shipping CLIENT send shipment.created
          orders CONSUMER process shipment.created
            · INFO order confirmed
            orders CLIENT INSERT orders.db
            orders CLIENT SELECT orders.db
            orders CLIENT UPDATE orders.db""".replace("ORDER", answer.json()["id"])
    )


async def test_tour(shop: RunningShop) -> None:
    """The README's curl lines do what it says of them, in its order."""
    lines = re.findall(r"curl (?:[^\n`\\]|\\\n)+", (ROOT / "README.md").read_text())
    answers = []
    for line in lines:
        moved = line.replace(":8000", f":{shop.base}").replace(":16686", f":{shop.base - BASE_PORT + PAGE_PORT}")
        process = await asyncio.create_subprocess_shell(f"{moved} --silent --max-time 10", stdout=subprocess.PIPE)
        answers.append(json.loads((await process.communicate())[0]))
    placed, traces, declined = answers
    assert (placed["sku"], placed["quantity"], placed["amount"]) == ("mug", 2, 2500)
    assert "data" in traces
    assert (declined["status"], declined["title"]) == (402, "Payment declined")
    assert re.fullmatch("[0-9a-f]{32}", declined["trace_id"])


async def test_no_span_is_lost(start_shop: StartShop) -> None:
    """Each of many requests is one server span in the viewer, though everything stops right after the last answer."""
    shop = start_shop()
    assert await _load(f"{shop.orders}/", REQUESTS) == [200] * REQUESTS
    assert shop.stop() == 0, "".join(line for line in shop.output if "GET / 200" not in line)
    with closing(Store(shop.data_dir)) as store:
        found = store.operations_between(0, 2**63 - 1)
        spans = store.counts()[1]
    assert [(one.service, one.operation, one.kind, one.calls) for one in found] == [("orders", "GET /", 2, REQUESTS)]
    assert spans == REQUESTS


async def test_viewer_killed_under_load(start_shop: StartShop) -> None:
    """When the viewer is killed under load no request fails, and each service complains once."""
    shop = start_shop()
    viewer = shop.child("viewer")

    def during(number: int) -> None:
        if number == REQUESTS // 4:
            viewer.kill()

    assert await _load(f"{shop.orders}/", REQUESTS, during) == [200] * REQUESTS

    async def complained() -> bool:
        return any("are sent again" in line or "Transient error" in line for line in shop.output)

    await _until(complained)
    assert shop.stop() == 1
    assert any(line.startswith("viewer ended with exit code -9") for line in shop.output)
    # Spans and log records take the fast path, metrics the SDK's exporter; both are one complainant.
    exporters = ("opentelemetry", "observability.fastpath")
    complaints = [line.split()[0] for line in shop.output if any(name in line for name in exporters)]
    assert "orders" in complaints
    assert len(complaints) == len(set(complaints))
