"""Shipping over HTTP."""

from __future__ import annotations

import pytest

from tests.service.conftest import Shop

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("sku", "refusal"), [("mug", None), ("anvil", "No carrier takes goods like this: anvil.")], ids=["mug", "anvil"]
)
async def test_shipment(shop: Shop, sku: str, refusal: str | None) -> None:
    """The shipment of an order that was placed is found by the order's id, and says if it was refused."""
    order_id = (await shop.orders.post("/orders", json={"sku": sku, "quantity": 2})).json()["id"]
    await shop.settled(order_id)
    shipment = (await shop.shipping.get(f"/shipments/{order_id}")).json()
    assert (shipment["sku"], shipment["quantity"], shipment["refusal"]) == (sku, 2, refusal)


async def test_no_shipment(shop: Shop) -> None:
    """Of an order that was not placed there is no shipment."""
    assert (await shop.shipping.get("/shipments/none")).status_code == 404
    assert (await shop.shipping.get("/")).json() == {"service": "shipping"}
