"""Payments over HTTP."""

from __future__ import annotations

import pytest

from service.payments.payments import DECLINED_CARD
from tests.service.conftest import Shop

pytestmark = pytest.mark.anyio

PAYMENT = {"amount": 2500, "currency": "EUR", "card": "4242424242424242"}


async def test_charge(shop: Shop) -> None:
    """A charge is repeatable, is found again, and with another amount is a conflict."""
    answers = [await shop.payments.put("/payments/o1", json=PAYMENT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (await shop.payments.get("/payments/o1")).json() == answers[0].json() == answers[1].json()
    assert (await shop.payments.put("/payments/o1", json={**PAYMENT, "amount": 1})).status_code == 409
    assert (await shop.payments.get("/payments/o2")).status_code == 404


async def test_declined(shop: Shop) -> None:
    """The declined card is declined each time, and the refusal is kept."""
    for _ in range(2):
        assert (await shop.payments.put("/payments/o1", json={**PAYMENT, "card": DECLINED_CARD})).status_code == 402
    assert (await shop.payments.get("/payments/o1")).json()["approved"] is False


async def test_refund(shop: Shop) -> None:
    """A refund is repeatable and shown; a charge that comes later, though it was never made before, is a conflict."""
    await shop.payments.put("/payments/o1", json=PAYMENT)
    for order_id in ("o1", "o2"):
        for _ in range(2):
            refund = await shop.payments.put(f"/payments/{order_id}/refund")
            assert (refund.status_code, refund.json()["refunded"]) == (200, True)
        late = await shop.payments.put(f"/payments/{order_id}", json=PAYMENT)
        assert (late.status_code, late.json()["title"]) == (409, "Conflict")
    assert [(await shop.payments.get(f"/payments/{one}")).json()["amount"] for one in ("o1", "o2")] == [2500, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": 1.5},
        {"amount": True},
        {"amount": 2**63},
        {"currency": "eur"},
        {"card": "4242"},
        {"card": 4242424242424242},
        {"card": "4242 4242 4242 4242"},
    ],
)
async def test_wrong_body(shop: Shop, change: dict[str, object]) -> None:
    """A body of the wrong form is a 422 problem that does not repeat what was sent."""
    response = await shop.payments.put("/payments/o1", json={**PAYMENT, **change})
    assert response.status_code == 422
    assert "4242" not in str({**response.json(), "trace_id": ""})


@pytest.mark.parametrize("card", ["4242424242424242", DECLINED_CARD])
async def test_card_is_nowhere(shop: Shop, card: str) -> None:
    """The number of a card is in no database file, span or log record, whatever became of the order."""
    await shop.orders.post(
        "/orders", json={"sku": "mug", "quantity": 1, "card": card}, headers={"idempotency-key": "one"}
    )
    told = [span.to_json() for span in shop.recorder.spans]
    told += [record.to_json() for record in shop.recorder.logs]
    assert told
    assert not [text for text in told if card in text]
    files = [path for path in shop.folder.iterdir() if path.is_file()]
    assert files
    assert not [path.name for path in files if card.encode() in path.read_bytes()]
