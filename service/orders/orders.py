"""What orders does: reserve the goods, take the payment, keep the order."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import DependencyError, ShopError

LEASE_S = 30
"""How long a request with an Idempotency-Key may work before a repeated one takes over; longer than all timeouts."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was placed; the amount is in minor units, the time in microseconds since the epoch."""

    id: str
    created_at: int
    sku: str
    quantity: int
    amount: int
    currency: str


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
            DependencyError: Inventory did not do its part.
        """
        ...

    async def release(self, order_id: str) -> None:
        """Put the goods back.

        Raises:
            DependencyError: Inventory did not do its part.
        """
        ...


class Payments(Protocol):
    """What orders needs of payments. The call may be repeated."""

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
        """Take the money.

        Raises:
            PaymentDeclined: The card was refused.
            DependencyError: Payments did not do its part; whether the money was taken is not known.
        """
        ...


class Store(Protocol):
    """Where orders are kept. Each call is one transaction."""

    async def claim(self, key: str, fingerprint: str, order_id: str, *, now: int, lease_s: int) -> str | Order:
        """Begin the work of an Idempotency-Key.

        Returns:
            The id of the order to work on (an earlier request's, if that one was cut off), or the order that the first
            request placed.

        Raises:
            KeyReused: The key came with another request.
            InProgress: The first request is being worked on.
            ShopError: The refusal that the first request got.
        """
        ...

    async def add(self, order: Order, key: str | None) -> Order:
        """Keep an order and, in the same transaction, end its key's work.

        Returns:
            The order that is kept: one of this id that is there already, if a request with the same key was quicker.
        """
        ...

    async def refuse(self, key: str, refusal: ShopError) -> None:
        """End a key's work with a refusal, to be given again."""
        ...

    async def unclaim(self, key: str) -> None:
        """Let the next request with the key take the work over at once."""
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

        The order's id is chosen before anything is done and kept with the key. All that follows may be repeated by that
        id, so a request that was cut off, or whose outcome is not known, is no answer to remember: the next one with
        this key goes on with the same order.

        Raises:
            ShopError: Any of the tree in `service.errors`; the goods are then released.
        """
        order_id = self._new_id()
        if key is None:
            return Placed(await self._place(order_id, request, None), replayed=False)
        try:
            claimed = await self._store.claim(key, request.fingerprint(), order_id, now=self._now(), lease_s=LEASE_S)
        except ShopError as answer:
            answer.replayed = True
            raise
        if isinstance(claimed, Order):
            return Placed(claimed, replayed=True)
        try:
            return Placed(await self._place(claimed, request, key), replayed=False)
        except ShopError as refusal:
            if isinstance(refusal, DependencyError):
                await self._store.unclaim(key)
            else:
                await self._store.refuse(key, refusal)
            raise
        except BaseException:
            await self._store.unclaim(key)
            raise

    async def get(self, order_id: str) -> Order:
        """An order.

        Raises:
            NotFound: No such order.
        """
        return await self._store.get(order_id)

    async def page(self, limit: int, after: str | None) -> list[Order]:
        """Orders from the newest to the oldest."""
        return await self._store.page(limit, after)

    async def _place(self, order_id: str, request: OrderRequest, key: str | None) -> Order:
        maybe_reserved = maybe_paid = False
        try:
            try:
                reserved = await self._inventory.reserve(order_id, request.sku, request.quantity)
            except DependencyError as error:
                maybe_reserved = error.sent
                raise
            maybe_reserved = True
            try:
                await self._payments.charge(order_id, reserved.amount, reserved.currency, request.card)
            except DependencyError as error:
                maybe_paid = error.sent
                raise
        except ShopError as error:
            reason = {"order_id": order_id, "reason": type(error).__name__}
            if maybe_paid:
                logger.error("payment unknown", extra=reason)  # noqa: TRY400 - the reason says it all
            else:
                logger.warning("order refused", extra=reason)
            # With a key the next request finds the goods where they are, and its payment, by the same order's id.
            if maybe_reserved and not (maybe_paid and key is not None):
                await self._release(order_id)
            raise
        order = await self._store.add(
            Order(order_id, self._now(), request.sku, request.quantity, reserved.amount, reserved.currency), key
        )
        logger.info("order placed", extra={"order_id": order_id, "amount": order.amount, "currency": order.currency})
        return order

    async def _release(self, order_id: str) -> None:
        try:
            await self._inventory.release(order_id)
        except DependencyError as error:
            logger.error(  # noqa: TRY400 - the reason says it all, a stack adds nothing
                "goods could not be released", extra={"order_id": order_id, "reason": str(error)}
            )
