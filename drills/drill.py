"""One scenario after the other on one running shop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import httpx

from drills.outcome import MAX_MORE_TASKS, RECOVERY_S, Calls, Outcome, Resources
from drills.processes import Shop, running_shop
from drills.scenarios import Scenario
from observability import tree
from observability.jaeger import spans_of
from observability.load.load import Answer, Load, Request
from observability.telemetry import (
    ATTEMPTS,
    BREAKER_CHANGES,
    BREAKER_STATE,
    EVENT_LOOP_TASKS,
    FAULT,
    REFUSALS,
    RETRIES,
)

GOOD_AGAIN = 20
"""So many good answers in a row, of requests sent after the fault's end, are a recovery."""

_SETTLE_S = 8.0
_SHOWN = ("http.response.status_code", "http.request.resend_count", "error.type", BREAKER_STATE, FAULT)


@dataclass(frozen=True, slots=True)
class Length:
    """How much of a drill there is: requests a second, and seconds that a fault lasts."""

    rate: float
    seconds: float


LONG, SHORT = Length(rate=20, seconds=15), Length(rate=20, seconds=3.5)


async def drill(
    scenarios: Sequence[Scenario], length: Length, folder: Path, tell: Callable[[str], None]
) -> list[Outcome]:
    """Run scenarios.

    Args:
        scenarios: What breaks, in this order.
        length: How much of each.
        folder: For the services' data and what they write; it has to be empty.
        tell: Is told how far it is.
    """
    tell(f"starting the shop in {folder}")
    async with running_shop(folder) as shop:
        await _warm_up(shop, length)
        outcomes = []
        for number, scenario in enumerate(scenarios, 1):
            tell(f"{number}/{len(scenarios)} {scenario.name}")
            outcomes.append(await _run(shop, scenario, length))
    return outcomes


async def _warm_up(shop: Shop, length: Length) -> None:
    async with Load(cycle([_order(shop)]), length.rate, lambda _: None).running():
        await asyncio.sleep(1.0)


def _order(shop: Shop) -> Request:
    """Buy a mug."""
    return Request("POST", f"{shop.url('orders')}/orders", b'{"sku": "mug", "quantity": 1}')


async def _run(shop: Shop, scenario: Scenario, length: Length) -> Outcome:
    await shop.metrics.fresh("orders")
    counted, before = _calls(shop, scenario.peer), _resources(shop)
    began_us = time.time_ns() // 1000
    requests = [_order(shop)]
    if scenario.reads:  # of goods that each order changes, and of goods that stay in the cache
        requests += [Request("GET", f"{shop.url('inventory')}/stock/{sku}") for sku in ("mug", "teapot")]
    answers: list[Answer] = []
    load = Load(cycle(requests), length.rate, answers.append)
    async with load.running():
        async with scenario.breaking(shop, load):
            await asyncio.sleep(length.seconds)
        recovered_s = await _recovery(load, answers)
    await shop.metrics.fresh("orders")
    return Outcome(
        name=scenario.name,
        harmless=scenario.harmless,
        answers=answers,
        calls=_calls(shop, scenario.peer).since(counted),
        recovered_s=recovered_s,
        before=before,
        after=await _settled(shop, before),
        trace=await _trace(shop, began_us),
    )


async def _recovery(load: Load, answers: Sequence[Answer]) -> float | None:
    """Seconds until answers are good again and stay so, or None if that takes too long."""
    loop = asyncio.get_running_loop()
    end = loop.time()
    while loop.time() < end + RECOVERY_S + GOOD_AGAIN / load.rate:
        await asyncio.sleep(0.1)
        later: list[Answer] = sorted((one for one in answers if one.sent >= end), key=lambda one: one.sent)
        good_since = next((index for index in range(len(later), 0, -1) if not later[index - 1].good), 0)
        if len(later) - good_since >= GOOD_AGAIN:
            recovered_s = later[good_since].sent - end
            return recovered_s if recovered_s <= RECOVERY_S else None
    return None


def _calls(shop: Shop, peer: str) -> Calls:
    """What orders itself has counted, since it alone knows of attempts that nobody received."""
    of_peer = {"clearspan__peer": peer}
    return Calls(
        attempts=shop.metrics.sum("orders", ATTEMPTS.name, **of_peer),
        retries=shop.metrics.sum("orders", RETRIES.name, **of_peer),
        refusals=shop.metrics.sum("orders", REFUSALS.name, **of_peer),
        changes=shop.metrics.by("orders", BREAKER_CHANGES.name, BREAKER_STATE, **of_peer),
    )


def _resources(shop: Shop) -> dict[str, Resources]:
    found = {}
    for name, member in shop.processes.items():
        process = member.look()
        tasks = shop.metrics.sum(name, EVENT_LOOP_TASKS.name)
        found[name] = Resources(process.memory_info().rss, process.num_fds(), tasks)
    return found


async def _settled(shop: Shop, before: Mapping[str, Resources]) -> dict[str, Resources]:
    """What each process holds when what was under way has ended, or after some seconds."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while True:
        found = _resources(shop)
        settled = all(one.tasks <= before[name].tasks + MAX_MORE_TASKS for name, one in found.items())
        if settled or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.2)


async def _trace(shop: Shop, began_us: int) -> str:
    """The lines of a trace that say most: a call and what it met, else a call that failed, else the request."""
    query: dict[str, str | int] = {"service": "orders", "start": began_us, "limit": 300}
    deadline = asyncio.get_running_loop().time() + _SETTLE_S  # after an outage of the viewer telemetry comes late
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        while not (found := (await client.get(f"{shop.url('viewer')}/api/traces", params=query)).json()["data"]):
            if asyncio.get_running_loop().time() > deadline:
                return "none was kept"
            await asyncio.sleep(0.2)
    drawn = [tree.render(spans_of(trace), attributes=_SHOWN).splitlines()[1:] for trace in reversed(found)]
    lines = [line for one in drawn for line in one if "(orphan)" not in line]
    for call, met in pairwise(lines):
        if FAULT in met and "CLIENT" in call:
            return f"{call.strip()} > {met.strip()}"
    failed = (line for line in lines if "CLIENT PUT" in line and "ERROR" in line)
    return next(failed, next(iter(lines), "only parts were kept")).strip()
