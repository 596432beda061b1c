"""Shipping over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from observability.problems import problem_responses
from service.schema import OrderIdInPath
from service.shipping.shipping import Shipment, Shipping

router = APIRouter()


def _shipping(request: Request) -> Shipping:
    shipping: Shipping = request.app.state.shipping
    return shipping


@router.get("/")
async def root() -> dict[str, str]:
    """Say who answers."""
    return {"service": "shipping"}


@router.get("/shipments/{order_id}", responses=problem_responses(404, 422))
async def get(order_id: OrderIdInPath, shipping: Annotated[Shipping, Depends(_shipping)]) -> Shipment:
    """Tell an order's shipment."""
    return await shipping.get(order_id)
