"""PostgreSQL's notifications: who adds events tells so with the commit, whichever process that is (LISTEN/NOTIFY)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.ext.asyncio import AsyncEngine

from observability.tasks import running_task

RECONNECT_S = 1.0
"""How long to wait before a lost connection is made anew, in seconds; meanwhile the relay's own looks must do."""

_CHECK_S = 10.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def notifications(engine: AsyncEngine, channel: str, told: Callable[[], None]) -> AsyncIterator[None]:
    """Call a function at each notification of a channel, for as long as the block lasts.

    It holds a connection of the engine. When that is lost another one is made, and the function is called then too,
    since something may have been told in between.
    """
    async with running_task(_listen(engine, channel, told), f"notifications of {channel}"):
        yield


async def _listen(engine: AsyncEngine, channel: str, told: Callable[[], None]) -> None:
    while True:
        try:
            with suppress_instrumentation():
                await _listen_once(engine, channel, told)
        except Exception as error:  # noqa: BLE001 - whatever a lost connection raises
            logger.debug("no notifications of %s for now: %s", channel, type(error).__name__)
        await asyncio.sleep(RECONNECT_S)


async def _listen_once(engine: AsyncEngine, channel: str, told: Callable[[], None]) -> None:
    lost = asyncio.Event()
    # Without a transaction, which would stay open for as long as this listens.
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.add_termination_listener(lambda _: lost.set())
        try:
            await driver.add_listener(channel, lambda *_: told())
            told()
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_S):
                        await lost.wait()
                        return
                await driver.execute("SELECT 1", timeout=RECONNECT_S)  # a peer that is gone without a word
        finally:
            await connection.invalidate()  # its listeners must not serve another borrower
