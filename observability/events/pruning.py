"""Deleting what outbox and inbox need not keep any longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from observability.tasks import repeated

PRUNE_EVERY_S = 60.0
PRUNE_BATCH = 1000
"""Rows that one transaction deletes, so that none is long."""

PAUSE_S = 0.05
"""Between two batches, in seconds, so that others come to write."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def pruned(*tables: Outbox | Inbox) -> AsyncIterator[None]:
    """Delete old rows once a minute, in batches, for as long as the block lasts."""

    async def prune() -> None:
        for table in tables:
            try:
                while await table.prune(PRUNE_BATCH) == PRUNE_BATCH:  # noqa: ASYNC110 - there is nothing to wait for
                    await asyncio.sleep(PAUSE_S)
            except Exception as error:  # noqa: BLE001 - whatever a database raises; the next time will do
                logger.warning("old events could not be deleted: %s", type(error).__name__)

    async with repeated(prune, PRUNE_EVERY_S, "pruning"):
        yield
