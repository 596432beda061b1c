"""Every instance of orders is replaced under load, as Kubernetes does it, and no customer notices."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from drills.processes import Member
from tests.haproxy import Proxy, haproxy
from tests.ports import free_ports

pytestmark = pytest.mark.anyio

OLD, NEW = ("old-1", "old-2"), ("new-1", "new-2")
DRAIN_DELAY_S = 2.0
"""Much more than the proxy takes to notice that an instance is not ready."""

CUSTOMERS = 4
"""On each of the two ways in; each keeps its connection."""

PAUSE_S = 0.4
"""Between two orders of one customer, so that the instances that start get some of the machine."""


@pytest.fixture
def ports() -> dict[str, int]:
    """A free port for everything that listens."""
    names = ("inventory", "payments", "shipping", *OLD, *NEW, "requests", "connections", "statistics")
    return dict(zip(names, free_ports(len(names)), strict=True))


@pytest.fixture
def proxy(tmp_path: Path, ports: dict[str, int]) -> Iterator[Proxy]:
    """In front of all instances of orders, whether they run or not."""
    listens = ports["requests"], ports["connections"], ports["statistics"]
    with haproxy(tmp_path, listens, {name: ports[name] for name in (*OLD, *NEW)}) as running:
        yield running


@pytest.fixture
def members(tmp_path: Path, ports: dict[str, int], proxy: Proxy, postgres_url: str) -> dict[str, Member]:
    """The processes of the shop, none of them started; the instances of orders share a database."""
    environment = {
        **os.environ,
        **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")},
        "CLEARSPAN_DATA_DIR": str(tmp_path),
        "CLEARSPAN_EVENTS_TOKEN": uuid.uuid4().hex,
        "ORDERS_URL": proxy.connections,
        **{f"{name.upper()}_URL": f"http://127.0.0.1:{ports[name]}" for name in ("inventory", "payments", "shipping")},
    }

    def member(name: str, service: str, **variables: str) -> Member:
        command = [sys.executable, "-m", "observability.cli", "serve", service, "--port", str(ports[name])]
        url = f"http://127.0.0.1:{ports[name]}"
        return Member(name, command, environment | variables, url, "/readyz", tmp_path / f"{name}.log")

    others = [member(name, name) for name in ("inventory", "payments", "shipping")]
    drain = {"CLEARSPAN_DRAIN_DELAY": str(DRAIN_DELAY_S)}
    old = [member(name, "orders", DATABASE_URL=postgres_url, **drain) for name in OLD]
    new = [member(name, "orders", DATABASE_URL=postgres_url) for name in NEW]  # stopped when nobody asks any more
    return {one.name: one for one in (*others, *old, *new)}


async def _order(client: httpx.AsyncClient) -> str:
    """Place an order and look at it; its id."""
    answer = await client.post(
        "/orders", json={"sku": "mug", "quantity": 1}, headers={"idempotency-key": uuid.uuid4().hex}
    )
    assert answer.status_code == 201, answer.text
    placed: str = answer.json()["id"]
    assert (await client.get(f"/orders/{placed}")).status_code == 200
    return placed


async def _customer(url: str, until: asyncio.Event) -> tuple[list[str], list[str]]:
    """Place one order after the other; their ids, and what went wrong."""
    placed, failed = [], []
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        while not until.is_set():
            try:
                placed.append(await _order(client))
            except (httpx.HTTPError, AssertionError) as error:
                failed.append(f"{url}: {error!r}")
            await asyncio.sleep(PAUSE_S)
    return placed, failed


async def _all_confirmed(url: str, placed: list[str]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client, asyncio.timeout(20):
        for order in placed:
            while (await client.get(f"/orders/{order}")).json()["state"] != "confirmed":  # noqa: ASYNC110 - not ours to set
                await asyncio.sleep(0.05)


async def test_rolling_update(members: dict[str, Member], proxy: Proxy) -> None:
    """Instances are replaced one by one, each after its successor is ready: every request of them all succeeds."""
    async with AsyncExitStack() as stack:
        for member in members.values():
            stack.push_async_callback(member.stop)
        for name, member in members.items():
            if name not in NEW:
                await member.start()
        for name in members.keys() - set(NEW):
            await members[name].ready()
        for name in OLD:
            await asyncio.to_thread(proxy.wait_for, name)

        done = asyncio.Event()
        urls = [proxy.requests, proxy.connections] * CUSTOMERS
        customers = [asyncio.create_task(_customer(url, done)) for url in urls]
        for old, new in zip(OLD, NEW, strict=True):
            await members[new].start()
            await members[new].ready()
            await asyncio.to_thread(proxy.wait_for, new)
            await members[old].stop()
            process = members[old].process
            assert process is not None
            assert process.returncode == 0
        done.set()
        outcomes = await asyncio.gather(*customers)
        assert [reason for _, failed in outcomes for reason in failed] == []
        assert all(placed for placed, _ in outcomes)
        await _all_confirmed(proxy.connections, [order for placed, _ in outcomes for order in placed])
