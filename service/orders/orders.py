"""What orders does: reserve the goods, take the payment, keep the order; and give back what an order has taken."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from observability.events.event import Event
from service.errors import Conflict, DependencyError, ShopError
from service.orders.order import Order, State

LEASE_S = 25
"""How long a request may work on its order before another one with its key takes over; longer than all timeouts."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a customer asks for."""

    sku: str
    quantity: int
    card: str = field(repr=False)

    def fingerprint(self) -> str:
        """A hash by which a repeated request is told from another one.

        Of the card it knows the last four digits: there are so few card numbers that a hash of all digits is undone by
        trying them.
        """
        return hashlib.sha256(repr((self.sku, self.quantity, self.card[-4:])).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the reserved goods cost, in minor units."""

    amount: int
    currency: str


class Inventory(Protocol):
    """What orders needs of inventory. Both calls may be repeated."""

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:
        """Set goods aside.

        Raises:
            NotFound: No such sku.
            OutOfStock: Fewer are left.
            Conflict: They were put back.
            DependencyError: Inventory did not do its part.
        """
        ...

    async def release(self, order_id: str) -> None:
        """Put the goods back, if there are any; none are set aside for this order any more.

        Raises:
            DependencyError: Inventory did not do its part.
        """
        ...


class Payments(Protocol):
    """What orders needs of payments. Both calls may be repeated."""

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
        """Take the money.

        Raises:
            PaymentDeclined: The card was refused.
            Conflict: It was given back, or charged otherwise: with another price, or another card of the same end.
            DependencyError: Payments did not do its part; whether the money was taken is not known.
        """
        ...

    async def refund(self, order_id: str) -> None:
        """Give the money back, if any was taken; none is taken for this order any more.

        Raises:
            DependencyError: Payments did not do its part.
        """
        ...


class Store(Protocol):
    """Where orders are kept. Each call is one transaction; times are in microseconds since the epoch.

    In the transaction in which an order comes into a state, the event that tells of it is kept too, to be delivered.
    """

    async def begin(self, order: Order, fingerprint: str, key: str | None, *, lease_s: int) -> Order:
        """Begin the work on an order, for as long as its lease lasts.

        Returns:
            The order; for a known key the one of the first request, to be worked on if it is pending, since that
            request was cut off.

        Raises:
            KeyReused: The key came with another request.
            InProgress: The first request is being worked on.
            Conflict: The first request's order was given up.
            ShopError: The refusal that the first request got.
        """
        ...

    async def end_lease(self, order_id: str, now: int) -> None:
        """Let the next request with the order's key take over at once, if it is pending."""
        ...

    async def advance(self, order: Order, refusal: ShopError | None = None) -> bool:
        """Keep an order in the state that it has come into.

        Args:
            order: The order in its new state.
            refusal: What its key is answered from now on.

        Returns:
            Whether it was in the state before; if not, nothing has changed.
        """
        ...

    async def apply(self, event: Event, order_id: str, state: State, *, at: int, reason: str | None = None) -> bool:
        """Bring an order into the state that an event has for it.

        Returns:
            Whether that has changed anything: an event that came before does not, nor does one whose state may not
            follow the present one.

        Raises:
            NotFound: No such order.
        """
        ...

    async def abandon_expired(self, before: int, *, at: int, limit: int) -> list[str]:
        """Abandon pending orders whose lease ended before a time, each in the trace of its own request.

        Returns:
            The ids of those that this call has abandoned, at most `limit`.
        """
        ...

    async def get(self, order_id: str) -> Order:
        """An order.

        Raises:
            NotFound: No such order.
        """
        ...

    async def page(self, limit: int, after: str | None) -> list[Order]:
        """Orders from the newest to the oldest, those after the order named `after` only."""
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """The outcome of placing an order; `replayed` if an earlier request with the same key placed it."""

    order: Order
    replayed: bool


class Orders:
    """The business of orders."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        payments: Payments,
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._payments = payments
        self._new_id = new_id
        self._now = now

    async def place(self, request: OrderRequest, key: str | None = None) -> Placed:
        """Place an order, once for an Idempotency-Key.

        The order is kept, as pending, before anything is done for it, and all that follows may be repeated by its id.
        So a request that was cut off, or whose outcome is not known, is no answer to remember: the next one with its
        key goes on with the same order. An order that nobody goes on with is abandoned: here, if it has no key, and
        else by the `Sweep`.

        Raises:
            ShopError: Any of the tree in `service.errors`; the order has then taken nothing, or it will be given back.
        """
        order = Order.new(self._new_id(), request.sku, request.quantity, at=self._now())
        try:
            order = await self._store.begin(order, request.fingerprint(), key, lease_s=LEASE_S)
        except ShopError as answer:
            answer.replayed = True
            raise
        if order.state != "pending":
            return Placed(order, replayed=True)
        try:
            return Placed(await self._place(order, request, has_key=key is not None), replayed=False)
        except ShopError:
            raise
        except BaseException:
            await self._store.end_lease(order.id, self._now())
            raise

    async def confirm(self, order_id: str, event: Event) -> None:
        """Take note that the goods of an order are on their way.

        Args:
            order_id: The order.
            event: What says so.

        Raises:
            NotFound: No such order.
        """
        if await self._store.apply(event, order_id, "confirmed", at=self._now()):
            logger.info("order confirmed", extra={"order_id": order_id})

    async def cancel(self, order_id: str, reason: str, event: Event) -> None:
        """Give back all that an order has taken or may still be taking, and cancel it.

        Args:
            order_id: The order.
            reason: Why.
            event: What says so.

        Raises:
            NotFound: No such order.
            DependencyError: Not everything could be given back; all of it may be repeated.
        """
        order = await self._store.get(order_id)
        if order.may_become("cancelled"):
            await self._payments.refund(order_id)
            await self._inventory.release(order_id)
        if await self._store.apply(event, order_id, "cancelled", at=self._now(), reason=reason):
            logger.warning("order cancelled", extra={"order_id": order_id, "reason": reason})

    async def get(self, order_id: str) -> Order:
        """An order.

        Raises:
            NotFound: No such order.
        """
        return await self._store.get(order_id)

    async def page(self, limit: int, after: str | None) -> list[Order]:
        """Orders from the newest to the oldest."""
        return await self._store.page(limit, after)

    async def _place(self, order: Order, request: OrderRequest, *, has_key: bool) -> Order:
        reserved = None
        try:
            reserved = await self._inventory.reserve(order.id, request.sku, request.quantity)
            await self._payments.charge(order.id, reserved.amount, reserved.currency, request.card)
        except ShopError as error:
            await self._not_placed(order, error, has_goods=reserved is not None, has_key=has_key)
            raise
        placed = order.placed(reserved.amount, reserved.currency, self._now())
        if await self._store.advance(placed):
            about = {"order_id": order.id, "amount": placed.amount, "currency": placed.currency}
            logger.info("order placed", extra=about)
            return placed
        kept = await self._store.get(order.id)
        if not kept.was_placed:  # by a request with the same key
            raise Conflict("This order took too long and was given up; what it had taken is given back.")
        return kept

    async def _not_placed(self, order: Order, error: ShopError, *, has_goods: bool, has_key: bool) -> None:
        about = {"order_id": order.id, "reason": type(error).__name__}
        is_unknown = isinstance(error, DependencyError) and error.sent
        if is_unknown and has_goods:
            logger.error("payment unknown", extra=about)
        else:
            logger.warning("order refused", extra=about)
        if isinstance(error, DependencyError) and has_key:
            # The next request finds the goods where they are, and its payment, by the same order's id.
            await self._store.end_lease(order.id, self._now())
            return
        if has_goods and not is_unknown:
            is_unknown = not await self._released(order.id)
        # Of a conflict the other charge may be there: an earlier request with the key made it, at another price, say.
        state: State = "abandoned" if is_unknown or (has_goods and isinstance(error, Conflict)) else "refused"
        await self._store.advance(order.to(state, self._now(), str(error)), error)

    async def _released(self, order_id: str) -> bool:
        try:
            await self._inventory.release(order_id)
        except DependencyError as error:
            about = {"order_id": order_id, "reason": str(error)}
            logger.warning("goods are not released yet", extra=about)
            return False
        return True
