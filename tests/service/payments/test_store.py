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


async def test_refund(ledger: Ledger) -> None:
    """A charge is refunded once, and is not made again."""
    await ledger.add(PAYMENT)
    refunded = replace(PAYMENT, refunded=True)
    for _ in range(2):
        assert await ledger.refund("order-1") == refunded
    assert await ledger.get("order-1") == refunded
    with pytest.raises(Conflict):
        await ledger.add(PAYMENT)


async def test_refund_of_a_declined_payment(ledger: Ledger) -> None:
    """Of a payment that was declined there is nothing to refund, and it is declined again."""
    declined = replace(PAYMENT, approved=False)
    await ledger.add(declined)
    assert await ledger.refund("order-1") == declined
    assert await ledger.add(declined) == declined


async def test_late_charge(ledger: Ledger) -> None:
    """An order that was refunded before its charge came is never charged."""
    for _ in range(2):
        assert await ledger.refund("order-1") == Payment.never("order-1")
    with pytest.raises(Conflict):
        await ledger.add(PAYMENT)
    assert await ledger.get("order-1") == Payment.never("order-1")


async def test_charge_and_refund_at_once(ledger: Ledger) -> None:
    """Of a charge and refunds at once the refunds have the last word."""
    for n in range(5):
        payment = replace(PAYMENT, order_id=f"order-{n}")
        charge, *refunds = ledger.add(payment), ledger.refund(payment.order_id), ledger.refund(payment.order_id)
        outcomes = await asyncio.gather(charge, *refunds, return_exceptions=True)
        assert not [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, Conflict)]
        kept = await ledger.get(payment.order_id)
        assert kept is not None
        assert kept.refunded


async def test_concurrent(ledger: Ledger) -> None:
    """Of different payments of one order at once one is kept."""
    outcomes = await asyncio.gather(
        *(ledger.add(replace(PAYMENT, amount=n)) for n in range(1, 11)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Payment) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9
