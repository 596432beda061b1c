"""What breaks, and how it is mended: one scenario a function, which breaks before its yield and mends after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from drills.load import Load
from drills.processes import Shop

Breaking = Callable[[Shop, Load], AbstractAsyncContextManager[None]]

_LONGER_THAN_A_DRILL_S = 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: What breaks.
        peer: The service on the failing side, whose load is watched.
        breaking: Breaks it and mends it.
        harmless: Whether no customer may notice.
    """

    name: str
    peer: str
    breaking: Breaking
    harmless: bool = False


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
    # A scenario of Redis belongs here: _killed("redis"), once it is a member of `drills.processes`.
    Scenario("viewer killed", "payments", _killed("viewer"), harmless=True),
    Scenario("traffic x10", "payments", _tenfold),
]
