"""Payments over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from observability.problems import problem_responses
from service.payments.payments import Payment, Payments
from service.schema import CardNumber, Currency, OrderIdInPath, Whole

router = APIRouter()


def _payments(request: Request) -> Payments:
    payments: Payments = request.app.state.payments
    return payments


PaymentsOfApp = Annotated[Payments, Depends(_payments)]


class PaymentRequest(BaseModel):
    """What to charge; the amount is in minor units."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: Whole = Field(ge=1, le=10**12)
    currency: Currency
    card: CardNumber


@router.get("/")
async def root() -> dict[str, str]:
    """Say who answers."""
    return {"service": "payments"}


@router.put("/payments/{order_id}", responses=problem_responses(400, 402, 409, 413, 422))
async def charge(order_id: OrderIdInPath, body: PaymentRequest, payments: PaymentsOfApp) -> Payment:
    """Charge a card for an order; repeating it charges nothing more."""
    return await payments.charge(order_id, body.amount, body.currency, body.card)


@router.put("/payments/{order_id}/refund", responses=problem_responses(422))
async def refund(order_id: OrderIdInPath, payments: PaymentsOfApp) -> Payment:
    """Give an order's money back, and take none for it any more; repeating it changes nothing."""
    return await payments.refund(order_id)


@router.get("/payments/{order_id}", responses=problem_responses(404, 422))
async def get(order_id: OrderIdInPath, payments: PaymentsOfApp) -> Payment:
    """Tell an order's payment."""
    return await payments.get(order_id)
