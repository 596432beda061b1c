"""One order as one trace across the services."""

from __future__ import annotations

import pytest

from service.payments.payments import DECLINED_CARD
from tests.service.conftest import Shop

pytestmark = pytest.mark.anyio


def _tree(shop: Shop) -> str:
    """The trace, with the databases' file names without their folder."""
    return shop.recorder.tree().replace(f"{shop.folder}/", "")


async def test_order(shop: Shop) -> None:
    """An order is one trace: reservation, then payment, then the row, with the logs in place."""
    response = await shop.orders.post("/orders", json={"sku": "mug", "quantity": 2})
    assert response.status_code == 201
    assert _tree(shop) == ""


async def test_declined(shop: Shop) -> None:
    """A declined card is a business answer: no error span, and the goods are released."""
    response = await shop.orders.post("/orders", json={"sku": "mug", "quantity": 1, "card": DECLINED_CARD})
    assert response.status_code == 402
    assert _tree(shop) == ""


async def test_public_edge(shop: Shop) -> None:
    """A stranger's trace is linked to at the edge, and not continued by any service behind it."""
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await shop.orders.get("/call_external_service/", headers={"traceparent": caller, "baggage": "a=b"})
    assert _tree(shop) == ""
