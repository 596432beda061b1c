"""What payments does: charge a card once for an order, and give the money back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.errors import NotFound, PaymentDeclined

DECLINED_CARD = "4000000000000002"
"""The test card that is always declined (Stripe's number for it)."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A charge; the amount is in minor units. Of the card only the last four digits are kept.

    Attributes:
        refunded: Whether the money was given back, and none is taken for this order any more.
    """

    order_id: str
    amount: int
    currency: str
    card_last4: str
    approved: bool
    refunded: bool = False

    @classmethod
    def never(cls, order_id: str) -> Payment:
        """What is kept of an order that is refunded before it was charged: nothing of no currency (ISO 4217's XXX)."""
        return cls(order_id, 0, "XXX", "", approved=False, refunded=True)


class Ledger(Protocol):
    """Where payments are kept. Each call is one transaction."""

    async def add(self, payment: Payment) -> Payment:
        """Keep a payment, or return the one that the order has already.

        Raises:
            Conflict: The order was charged, or declined, with other figures, or it was refunded.
        """
        ...

    async def refund(self, order_id: str) -> Payment:
        """Mark an order's payment as refunded, unless it was declined; for one that has none keep `Payment.never`."""
        ...

    async def get(self, order_id: str) -> Payment | None:
        """An order's payment, or None."""
        ...


class Payments:
    """The business of payments."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> Payment:
        """Charge a card for an order, once however often it is asked for.

        Raises:
            PaymentDeclined: The card was refused, now or the first time.
            Conflict: The order was charged with other figures, or it was refunded.
        """
        payment = await self._ledger.add(Payment(order_id, amount, currency, card[-4:], card != DECLINED_CARD))
        if not payment.approved:
            raise PaymentDeclined("The card was declined; use another one for a new order.")
        return payment

    async def refund(self, order_id: str) -> Payment:
        """Give an order's money back, once however often it is asked for.

        An order that was never charged is marked, since its charge may still be under way: it will be refused.
        """
        return await self._ledger.refund(order_id)

    async def get(self, order_id: str) -> Payment:
        """An order's payment.

        Raises:
            NotFound: The order was never charged.
        """
        payment = await self._ledger.get(order_id)
        if payment is None:
            raise NotFound("No payment is known for this order.")
        return payment
