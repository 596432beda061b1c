"""What waits in an outbox, watched: as metrics, and as a warning where it waits too long."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.events.outbox import Outbox
from observability.providers import Telemetry
from observability.tasks import repeated
from observability.telemetry import OUTBOX_DEAD, OUTBOX_OLDEST, OUTBOX_PENDING

EVERY_S = 5.0
MAX_AGE_S = 60.0
"""An event that waits longer is worth a warning."""

logger = logging.getLogger(__name__)


class BacklogError(Exception):
    """Events wait too long."""


async def check_backlog(outbox: Outbox) -> None:
    """Raise `BacklogError` if the oldest event has waited longer than MAX_AGE_S."""
    backlog = await outbox.backlog()
    if backlog.oldest_s > MAX_AGE_S:
        raise BacklogError(f"{backlog.pending} events wait, the oldest for {backlog.oldest_s:.0f} s")


@asynccontextmanager
async def watched(outbox: Outbox, telemetry: Telemetry) -> AsyncIterator[None]:
    """Measure an outbox's backlog every few seconds, for as long as the block lasts.

    It asks the database and not the relay, since a relay that is stuck would have nothing to tell.
    """
    meter = telemetry.meter_provider.get_meter("observability.events")
    pending = meter.create_gauge(*OUTBOX_PENDING)
    oldest = meter.create_gauge(*OUTBOX_OLDEST)
    dead = meter.create_gauge(*OUTBOX_DEAD)

    async def measure() -> None:
        try:
            backlog = await outbox.backlog()
        except Exception as error:  # noqa: BLE001 - whatever a database raises; the next time will do
            logger.debug("the outbox cannot be measured: %s", type(error).__name__)
        else:
            pending.set(backlog.pending)
            oldest.set(backlog.oldest_s)
            dead.set(backlog.dead)

    async with repeated(measure, EVERY_S, f"backlog of {outbox.service_name}"):
        yield
