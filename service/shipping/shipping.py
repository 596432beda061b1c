"""What shipping does: send the goods of an order on their way, or say that it cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from observability.events.event import Event
from service.errors import NotFound

UNSHIPPABLE_SKU = "anvil"
"""The goods that no carrier takes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shipment:
    """The goods of an order on their way; the time is in microseconds since the epoch.

    Attributes:
        refusal: Why they are not; None if they are.
    """

    order_id: str
    created_at: int
    sku: str
    quantity: int
    refusal: str | None


class Store(Protocol):
    """Where shipments are kept. Each call is one transaction."""

    async def add(self, shipment: Shipment, event: Event) -> bool:
        """Keep a shipment, and the event that tells of it, to be delivered.

        Args:
            shipment: The shipment.
            event: What it was asked for by.

        Returns:
            Whether it is new: of an event that came before it is kept already.
        """
        ...

    async def get(self, order_id: str) -> Shipment | None:
        """An order's shipment, or None."""
        ...


class Shipping:
    """The business of shipping."""

    def __init__(self, store: Store, *, now: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._store = store
        self._now = now

    async def ship(self, order_id: str, sku: str, quantity: int, event: Event) -> None:
        """Send an order's goods on their way or refuse to, once however often an event asks for it.

        Args:
            order_id: The order.
            sku: What it has bought.
            quantity: How many of them.
            event: What says so.
        """
        refusal = f"No carrier takes goods like this: {sku}." if sku == UNSHIPPABLE_SKU else None
        if not await self._store.add(Shipment(order_id, self._now(), sku, quantity, refusal), event):
            return
        if refusal is None:
            logger.info("shipment created", extra={"order_id": order_id})
        else:
            logger.warning("shipment refused", extra={"order_id": order_id, "reason": refusal})

    async def get(self, order_id: str) -> Shipment:
        """An order's shipment.

        Raises:
            NotFound: There is none, or not yet.
        """
        shipment = await self._store.get(order_id)
        if shipment is None:
            raise NotFound("No shipment is known of this order.")
        return shipment
