"""Orders over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from opentelemetry import trace
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from observability.problems import problem_responses
from service.errors import ShopError
from service.orders.clients import HttpExternal
from service.orders.order import Order
from service.orders.orders import OrderRequest, Orders
from service.orders.telemetry import OrderMetrics
from service.schema import CardNumber, OrderId, OrderIdInPath, Sku, Whole
from service.telemetry import ORDER_ID

TEST_CARD = "4242424242424242"
"""The card of an order that names none: a test number that is always accepted."""

router = APIRouter()


def _orders(request: Request) -> Orders:
    orders: Orders = request.app.state.orders
    return orders


def _metrics(request: Request) -> OrderMetrics:
    metrics: OrderMetrics = request.app.state.metrics
    return metrics


def _external(request: Request) -> HttpExternal:
    external: HttpExternal = request.app.state.external
    return external


OrdersOfApp = Annotated[Orders, Depends(_orders)]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]


class NewOrder(BaseModel):
    """What a customer asks for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sku: Sku
    quantity: Whole = Field(ge=1, le=1000)
    card: CardNumber = TEST_CARD


class OrderPage(BaseModel):
    """Orders from the newest to the oldest; `next` is the `after` of the following page, if there is one."""

    orders: list[Order]
    next: str | None


@router.get("/")
async def root() -> dict[str, str]:
    """Say hello."""
    return {"Hello": "World"}


@router.get("/call_external_service/", responses=problem_responses(502, 503, 504))
async def call_external_service(external: Annotated[HttpExternal, Depends(_external)]) -> Response:
    """Fetch the external service's JSON."""
    return Response(await external.fetch(), media_type="application/json")


@router.post("/orders", status_code=201, responses=problem_responses(400, 402, 404, 409, 413, 422, 502, 503, 504))
async def place(
    body: NewOrder,
    orders: OrdersOfApp,
    metrics: Annotated[OrderMetrics, Depends(_metrics)],
    response: Response,
    idempotency_key: Annotated[IdempotencyKey | None, Header()] = None,
) -> Order:
    """Reserve the goods, take the payment, keep the order; whether it is shipped, its state tells later."""
    try:
        placed = await orders.place(OrderRequest(body.sku, body.quantity, body.card), idempotency_key)
    except ShopError as error:
        if not error.replayed:
            metrics.refused(error)
        raise
    if not placed.replayed:
        metrics.placed(placed.order)
    trace.get_current_span().set_attribute(ORDER_ID, placed.order.id)
    response.headers["location"] = f"/orders/{placed.order.id}"
    return placed.order


@router.get("/orders", responses=problem_responses(404, 422))
async def page(
    orders: OrdersOfApp, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: OrderId | None = None
) -> OrderPage:
    """List orders from the newest to the oldest."""
    found = await orders.page(limit + 1, after)
    return OrderPage(orders=found[:limit], next=found[limit - 1].id if len(found) > limit else None)


@router.get("/orders/{order_id}", responses=problem_responses(404, 422))
async def get(order_id: OrderIdInPath, orders: OrdersOfApp) -> Order:
    """Tell one order, and the states that it has been in."""
    return await orders.get(order_id)
