"""The sweep: orders that no request works on any more are given up, whatever became of those who did."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from observability.tasks import repeated
from service.orders.orders import Store

ABANDON_AFTER_S = 60
"""How long an order whose lease has ended waits for its request to come again with its key, in seconds."""

EVERY_S = 5.0
"""How often such orders are looked for, in seconds."""

BATCH = 100

logger = logging.getLogger(__name__)


class Sweep:
    """Abandons the pending orders that were left behind. Any number of replicas may do so at once.

    Args:
        store: Where orders are kept.
        now: Microseconds since the epoch.
    """

    def __init__(self, store: Store, *, now: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._store = store
        self._now = now

    async def once(self) -> int:
        """Abandon a batch of orders; how many there were."""
        now = self._now()
        abandoned = await self._store.abandon_expired(now - ABANDON_AFTER_S * 1_000_000, at=now, limit=BATCH)
        for order_id in abandoned:
            logger.warning("order abandoned", extra={"order_id": order_id})
        return len(abandoned)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Abandon orders every few seconds, for as long as the block lasts."""
        async with repeated(self._all, EVERY_S, "sweep of orders"):
            yield

    async def _all(self) -> None:
        try:
            while await self.once() == BATCH:
                pass
        except Exception as error:  # noqa: BLE001 - whatever a database raises; the next time will do
            logger.warning("orders cannot be swept: %s", type(error).__name__)
