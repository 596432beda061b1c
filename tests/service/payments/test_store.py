"""The ledger's contract, held by the fake and the real one on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import service.payments
from observability.database import create_engine, migrate
from service.errors import Conflict
from service.payments.payments import Ledger, Payment
from service.payments.store import SqlLedger
from tests.service.fakes import FakeLedger

pytestmark = pytest.mark.anyio

PAYMENT = Payment("order-1", 2500, "EUR", "4242", approved=True)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def ledger(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> AsyncIterator[Ledger]:
    """An empty ledger of each kind."""
    if request.param == "fake":
        yield FakeLedger()
        return
    engine = create_engine(empty_database(request.param))
    await migrate(engine, "payments", Path(service.payments.__file__).with_name("migrations"))
    yield SqlLedger(engine)
    await engine.dispose()


async def test_add(ledger: Ledger) -> None:
    """A payment is kept once and comes back as it was."""
    assert await ledger.get("order-1") is None
    for _ in range(2):
        assert await ledger.add(PAYMENT) == PAYMENT
    assert await ledger.get("order-1") == PAYMENT


@pytest.mark.parametrize("change", [{"amount": 1}, {"currency": "USD"}, {"card_last4": "1111"}, {"approved": False}])
async def test_conflict(ledger: Ledger, change: dict[str, Any]) -> None:
    """Another payment of the same order is refused, and the first one stays."""
    await ledger.add(PAYMENT)
    with pytest.raises(Conflict):
        await ledger.add(replace(PAYMENT, **change))
    assert await ledger.get("order-1") == PAYMENT


async def test_concurrent(ledger: Ledger) -> None:
    """Of different payments of one order at once one is kept."""
    outcomes = await asyncio.gather(
        *(ledger.add(replace(PAYMENT, amount=n)) for n in range(1, 11)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Payment) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9
