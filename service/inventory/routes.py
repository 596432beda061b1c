"""Inventory over HTTP."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from observability.problems import problem_responses
from service.inventory.inventory import STOCK_TTL_S, Inventory, Reservation, StockItem
from service.schema import OrderIdInPath, Sku, SkuInPath, Whole

router = APIRouter()


def _inventory(request: Request) -> Inventory:
    inventory: Inventory = request.app.state.inventory
    return inventory


InventoryOfApp = Annotated[Inventory, Depends(_inventory)]


class ReservationRequest(BaseModel):
    """What an order sets aside."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sku: Sku
    quantity: Whole = Field(ge=1, le=1000)


@router.get("/")
async def root() -> dict[str, str]:
    """Say who answers."""
    return {"service": "inventory"}


@router.get("/stock")
async def stock(inventory: InventoryOfApp) -> list[StockItem]:
    """List everything on the shelf."""
    return await inventory.items()


_AGE = {
    "description": "Seconds since this was so, where it comes from the cache (RFC 9111).",
    "schema": {"type": "integer", "minimum": 0},
}

_CACHE_STATUS = {
    "description": "Only where it is older than it should be, since the shelf cannot be asked now: a negative `ttl`"
    " (RFC 9211).",
    "schema": {"type": "string"},
}


@router.get(
    "/stock/{sku}",
    responses={200: {"headers": {"Age": _AGE, "Cache-Status": _CACHE_STATUS}}, **problem_responses(404, 422)},
)
async def stock_item(sku: SkuInPath, inventory: InventoryOfApp, response: Response) -> StockItem:
    """Tell how many of one kind are left, or were a few seconds ago."""
    item = await inventory.item(sku)
    if item.age_s > 0:
        response.headers["age"] = str(int(item.age_s))
    if item.stale:
        response.headers["cache-status"] = f"inventory; hit; ttl={math.floor(STOCK_TTL_S - item.age_s)}"
    return item.value


@router.put("/reservations/{order_id}", responses=problem_responses(400, 404, 409, 413, 422))
async def reserve(order_id: OrderIdInPath, body: ReservationRequest, inventory: InventoryOfApp) -> Reservation:
    """Set goods aside for an order; repeating it changes nothing."""
    return await inventory.reserve(order_id, body.sku, body.quantity)


@router.delete("/reservations/{order_id}", status_code=204, responses=problem_responses(422))
async def release(order_id: OrderIdInPath, inventory: InventoryOfApp) -> Response:
    """Put an order's goods back, and set none aside for it any more; repeating it changes nothing."""
    await inventory.release(order_id)
    return Response(status_code=204)
