"""Orders over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.payments.payments import DECLINED_CARD
from tests.service.conftest import Shop

pytestmark = pytest.mark.anyio

MUG = {"sku": "mug", "quantity": 2}


async def _left(shop: Shop, sku: str) -> int:
    left: int = (await shop.inventory.get(f"/stock/{sku}")).json()["available"]
    return left


async def test_place_and_get(shop: Shop) -> None:
    """A placed order is found where its Location says, with its state and the ones before it."""
    response = await shop.orders.post("/orders", json=MUG)
    assert response.status_code == 201
    placed = response.json()
    assert (placed["amount"], placed["state"]) == (2500, "placed")
    await shop.settled(placed["id"])
    found = (await shop.orders.get(response.headers["location"])).json()
    assert {**found, "state": "placed", "history": found["history"][:2]} == placed
    assert [change["state"] for change in found["history"]] == ["pending", "placed", "confirmed"]
    assert (await shop.orders.get("/orders")).json()["orders"] == [found]


async def test_root_and_external(shop: Shop) -> None:
    """The two first endpoints answer."""
    assert (await shop.orders.get("/")).json() == {"Hello": "World"}
    assert (await shop.orders.get("/call_external_service/")).json() == {"service": "inventory"}


async def test_pages(shop: Shop) -> None:
    """Orders are listed from the newest to the oldest, page by page, each once."""
    placed = [(await shop.orders.post("/orders", json=MUG)).json()["id"] for _ in range(5)]
    listed: list[str] = []
    after: str | None = None
    while True:
        page = (await shop.orders.get("/orders", params={"limit": 2} | ({"after": after} if after else {}))).json()
        listed += [order["id"] for order in page["orders"]]
        if (after := page["next"]) is None:
            break
    assert listed == placed[::-1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"sku": "none", "quantity": 1}, 404),
        ({"sku": "kettle", "quantity": 4}, 409),
        ({"sku": "mug", "quantity": 1, "card": DECLINED_CARD}, 402),
        ({"sku": "mug", "quantity": 0}, 422),
        ({"sku": "mug", "quantity": 10**30}, 422),
        ({"sku": "mug", "quantity": "2"}, 422),
        ({"sku": "mug", "quantity": True}, 422),
        ({"sku": "m\x00g", "quantity": 1}, 422),
        ({"sku": "mug", "quantity": 1, "extra": 1}, 422),
        ({}, 422),
        ([], 422),
    ],
)
async def test_refused(shop: Shop, body: Any, status: int) -> None:
    """What cannot be ordered is a problem with a trace id, and leaves the shelf as it was."""
    before = await _left(shop, "mug"), await _left(shop, "kettle")
    response = await shop.orders.post("/orders", json=body)
    assert response.status_code == status
    kept = (await shop.orders.get("/orders")).json()["orders"]
    assert [(order["state"], order["amount"]) for order in kept] == ([] if status == 422 else [("refused", None)])
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["trace_id"]) == 32
    assert (await _left(shop, "mug"), await _left(shop, "kettle")) == before


async def test_repeated_key(shop: Shop) -> None:
    """A repeated Idempotency-Key gives the first answer and takes nothing more; with another body it is refused."""
    headers = {"idempotency-key": "one"}
    first = await shop.orders.post("/orders", json=MUG, headers=headers)
    left = await _left(shop, "mug")
    again = await shop.orders.post("/orders", json=MUG, headers=headers)
    other = await shop.orders.post("/orders", json={**MUG, "quantity": 3}, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers["location"] == first.headers["location"]
    assert other.status_code == 422
    assert await _left(shop, "mug") == left


async def test_repeated_refusal(shop: Shop) -> None:
    """A refusal is given again for the same key."""
    body, headers = {"sku": "mug", "quantity": 1, "card": DECLINED_CARD}, {"idempotency-key": "two"}
    answers = [(await shop.orders.post("/orders", json=body, headers=headers)).status_code for _ in range(2)]
    assert answers == [402, 402]


async def test_key_of_a_cancelled_order(shop: Shop) -> None:
    """A key gives its order again as it is now, though that was cancelled since."""
    body, headers = {"sku": "anvil", "quantity": 1}, {"idempotency-key": "four"}
    first = await shop.orders.post("/orders", json=body, headers=headers)
    await shop.settled(first.json()["id"])
    again = await shop.orders.post("/orders", json=body, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, first.json()["id"], "cancelled")


async def test_concurrent_key(shop: Shop) -> None:
    """Of many requests with one key at once one does the work; the others are told to wait or get its answer."""
    headers = {"idempotency-key": "three"}
    answers = await asyncio.gather(*(shop.orders.post("/orders", json=MUG, headers=headers) for _ in range(8)))
    placed = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert len(placed) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in waiting)
    assert {answer.status_code for answer in answers} <= {201, 409}


async def test_never_oversold(shop: Shop) -> None:
    """However many ask at once, no more is sold than there is."""
    answers = await asyncio.gather(
        *(shop.orders.post("/orders", json={"sku": "kettle", "quantity": 1}) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7
    assert await _left(shop, "kettle") == 0
