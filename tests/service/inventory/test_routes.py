"""Inventory over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from observability.cache import Cached
from service.inventory.inventory import Inventory, StockItem
from tests.service.conftest import Shop

pytestmark = pytest.mark.anyio


async def test_stock(shop: Shop) -> None:
    """The shelf is listed, and each kind told by itself."""
    items = (await shop.inventory.get("/stock")).json()
    assert [item["sku"] for item in items] == ["anvil", "kettle", "mug", "teapot"]
    assert (await shop.inventory.get("/stock/mug")).json() == items[2]
    assert (await shop.inventory.get("/stock/none")).status_code == 404


async def test_stale_stock(shop: Shop) -> None:
    """What is older than it should be is told with its age, and says that it is stale; what is fresh does not."""

    class OldInventory(Inventory):
        async def item(self, sku: str) -> Cached[StockItem]:
            return Cached(StockItem(sku, "Mug", 1250, "EUR", 7), 12.5, stale=True)

    assert "cache-status" not in (await shop.inventory.get("/stock/mug")).headers
    old = OldInventory.__new__(OldInventory)
    shop.apps["inventory"].state.inventory = old
    response = await shop.inventory.get("/stock/mug")
    assert response.json()["available"] == 7
    assert (response.headers["age"], response.headers["cache-status"]) == ("12", "inventory; hit; ttl=-8")


async def test_reservation(shop: Shop) -> None:
    """A reservation and its undoing are repeatable; with another body, or after that, it is a conflict."""
    for _ in range(2):
        response = await shop.inventory.put("/reservations/o1", json={"sku": "mug", "quantity": 2})
        assert (response.status_code, response.json()["amount"]) == (200, 2500)
    conflict = await shop.inventory.put("/reservations/o1", json={"sku": "mug", "quantity": 3})
    assert (conflict.status_code, conflict.json()["title"]) == (409, "Conflict")
    for _ in range(2):
        assert (await shop.inventory.delete("/reservations/o1")).status_code == 204
    late = await shop.inventory.put("/reservations/o1", json={"sku": "mug", "quantity": 2})
    assert (late.status_code, late.json()["title"]) == (409, "Conflict")


@pytest.mark.parametrize(
    "body",
    [
        {"sku": "mug", "quantity": 1001},
        {"sku": "mug", "quantity": 1.5},
        {"sku": "mug", "quantity": "1"},
        {"sku": "mug", "quantity": True},
        {"sku": "mug", "quantity": 2**63},
        {"sku": "", "quantity": 1},
        {"sku": "mug\x00", "quantity": 1},
        {"sku": ["mug"], "quantity": 1},
    ],
)
async def test_wrong_body(shop: Shop, body: Any) -> None:
    """A body of the wrong form is a 422 problem."""
    response = await shop.inventory.put("/reservations/o1", json=body)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("order_id", ["%00", "%ff", "%ED%A0%80", "a%0ab", "a" * 65, "-a"])
async def test_wrong_id(shop: Shop, order_id: str) -> None:
    """An id of the wrong form is a 422 problem, however it is written."""
    assert (await shop.inventory.delete(f"/reservations/{order_id}")).status_code == 422
