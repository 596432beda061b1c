"""What breaks, and how it is mended: one scenario a function, which breaks before its yield and mends after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from drills.outcome import RECOVERY_S
from drills.processes import Shop
from observability.load.load import Load

Breaking = Callable[[Shop, Load], AbstractAsyncContextManager[None]]

_LONGER_THAN_A_DRILL_S = 300
_FILLED_S = 1.0
"""After so long there is something in the cache."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: What breaks.
        peer: The service on the failing side, whose load is watched.
        breaking: Breaks it and mends it.
        harmless: Whether no customer may notice.
        reads: Whether customers read the stock too, through the cache in Redis; `redis_server` has to be there.
    """

    name: str
    peer: str
    breaking: Breaking
    harmless: bool = False
    reads: bool = False


@asynccontextmanager
async def _nothing(_shop: Shop, _load: Load) -> AsyncIterator[None]:
    yield


def _fault(service: str, kind: str, **options: Any) -> Breaking:  # noqa: ANN401 - any option of a fault
    @asynccontextmanager
    async def breaking(shop: Shop, _load: Load) -> AsyncIterator[None]:
        faults = shop.faults(service)
        await asyncio.to_thread(faults.set, {"kind": kind, "seconds": _LONGER_THAN_A_DRILL_S, **options})
        yield
        await asyncio.to_thread(faults.clear)

    return breaking


def _killed(name: str) -> Breaking:
    @asynccontextmanager
    async def breaking(shop: Shop, _load: Load) -> AsyncIterator[None]:
        await shop.members[name].kill()
        yield
        await shop.members[name].start()
        await shop.members[name].ready()

    return breaking


@asynccontextmanager
async def _redis_killed(shop: Shop, load: Load) -> AsyncIterator[None]:
    await asyncio.sleep(_FILLED_S)
    async with _killed("redis")(shop, load):
        yield
    # Until something is in it again: inventory leaves it alone for a while, and nobody may notice its return either.
    async with asyncio.timeout(RECOVERY_S), Redis.from_url(shop.url("redis")) as redis:
        while not await redis.dbsize():  # noqa: ASYNC110 - an empty Redis tells nobody when that ends
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _tenfold(_shop: Shop, load: Load) -> AsyncIterator[None]:
    load.rate *= 10
    yield
    load.rate /= 10


SCENARIOS = [
    Scenario("nothing", "payments", _nothing, harmless=True),
    Scenario("payments: 30 % errors", "payments", _fault("payments", "error", share=0.3)),
    Scenario("payments hanging", "payments", _fault("payments", "hang")),
    Scenario("inventory slow (1 s)", "inventory", _fault("inventory", "latency", delay_s=1.0), harmless=True),
    Scenario("inventory hanging", "inventory", _fault("inventory", "hang")),
    Scenario("inventory killed", "inventory", _killed("inventory")),
    Scenario("Redis killed", "inventory", _redis_killed, harmless=True, reads=True),
    Scenario("viewer killed", "payments", _killed("viewer"), harmless=True),
    Scenario("traffic x10", "payments", _tenfold),
]
