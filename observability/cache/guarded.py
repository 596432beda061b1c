"""Redis down, slow or talking nonsense is slower, never an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from observability.cache.memory import MemoryStore
from observability.cache.pause import Pause
from observability.cache.redis import BusyError, UnreadableEntryError
from observability.cache.store import Entry, Found, Store
from observability.providers import Telemetry
from observability.telemetry import CACHE_STORE_ERRORS

WAIT_S: Final = 0.15
"""How long a call waits for the shared store at most, in seconds, whatever it does meanwhile."""

LOCAL_FRESH_S: Final = 2.0
"""How old a local entry may be, in seconds, since no other process can invalidate it."""

MAX_OWED: Final = 10_000
"""How many deletions are kept for a store that does not answer; the oldest is lost first, and counted."""

_COMPLAINT_INTERVAL_S = 60.0

_Answer = TypeVar("_Answer")

logger = logging.getLogger(__name__)


class GuardedStore:
    """`observability.cache.store.Store` that asks a shared store and, while that fails, the process's own memory.

    While the shared store answers there are no local copies, so a deletion there is one for every process at once,
    and no message that could be lost has to tell them. After some failures in a row the shared store is left alone
    for a while, and nothing waits for it.

    A deletion that the shared store did not confirm is owed to it, and told before anything else is asked. Until then
    another process that does reach the store may find the old entry, at most as long as that is fresh.

    Args:
        store: The shared store; whatever it raises counts as nothing found.
        local: Stands in for it; of this object alone.
        telemetry: Where failures are counted.
        clock: Seconds that never go back.
    """

    def __init__(
        self, store: Store, local: MemoryStore, telemetry: Telemetry, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._local = local
        self._clock = clock
        self._pause = Pause(clock)
        # By key, with a mark that tells one deletion from the next one of the same key.
        self._owed: OrderedDict[str, object] = OrderedDict()
        self._paying = False
        self._local_used = False
        self._next_complaint = clock()
        meter = telemetry.meter_provider.get_meter("observability.cache")
        self._errors = meter.create_counter(*CACHE_STORE_ERRORS)

    async def read(self, key: str, *, hold_s: float) -> Found:
        """What the shared store keeps, or else what memory does."""
        found = await self._ask(key, lambda: self._store.read(key, hold_s=hold_s))
        if found is not None:
            return found
        self._local_used = True
        return await self._local.read(key, hold_s=hold_s)

    async def put(self, key: str, version: str, entry: Entry, *, life_s: float) -> bool:
        """Keep an entry where its version came from."""
        brief = replace(entry, fresh_s=min(entry.fresh_s, LOCAL_FRESH_S))
        if await self._local.put(key, version, brief, life_s=life_s):
            return True
        return await self._ask(key, lambda: self._store.put(key, version, entry, life_s=life_s)) is True

    async def delete(self, *keys: str) -> None:
        """Forget keys; the shared store is told now, or as soon as it answers, even if the caller is cancelled."""
        await self._local.delete(*keys)
        self._owe(*keys)
        await self._ask(keys[0], _nothing)

    async def aclose(self) -> None:
        """Close both stores."""
        await self._store.aclose()
        await self._local.aclose()

    async def _ask(self, key: str, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """What the shared store answers, or None when it fails or is left alone."""
        if not self._pause.may_ask():
            return None
        try:
            async with asyncio.timeout(WAIT_S):
                await self._pay(key)
                answer = await question()
        except Exception as error:  # noqa: BLE001 - whatever a cache's store raises, the load still answers
            if isinstance(error, UnreadableEntryError):
                self._owe(key)
            if isinstance(error, BusyError):
                self._pause.undecided()
            else:
                self._pause.failed()
            self._complain(error)
            return None
        except BaseException:
            self._pause.undecided()
            raise
        self._pause.answered()
        if self._local_used:
            self._local_used = False
            await self._local.aclose()  # what others have invalidated since must not come back with the next failure
        return answer

    def _owe(self, *keys: str) -> None:
        for key in keys:
            self._owed[key] = object()
            self._owed.move_to_end(key)
        while len(self._owed) > MAX_OWED:
            self._owed.popitem(last=False)
            self._errors.add(1, {ERROR_TYPE: "deletion_lost"})

    async def _pay(self, key: str) -> None:
        """Delete what is owed: everything, or while another call does so, only the key that is asked for."""
        due = dict(self._owed) if not self._paying else {key: self._owed[key]} if key in self._owed else {}
        if not due:
            return
        first = not self._paying
        self._paying = True
        try:
            await self._store.delete(*due)
        finally:
            if first:
                self._paying = False
        for paid, mark in due.items():
            if self._owed.get(paid) is mark:
                del self._owed[paid]

    def _complain(self, error: Exception) -> None:
        self._errors.add(1, {ERROR_TYPE: type(error).__qualname__})
        now = self._clock()
        if now >= self._next_complaint:
            self._next_complaint = now + _COMPLAINT_INTERVAL_S
            logger.warning("the cache's shared store fails (%s); until it answers, memory serves", type(error).__name__)


async def _nothing() -> None:
    """Ask for nothing but that what is owed is paid."""
