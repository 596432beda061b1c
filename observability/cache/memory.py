"""Entries in the process's own memory."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from observability.cache.store import Entry, Found
from observability.providers import Telemetry
from observability.telemetry import CACHE_EVICTIONS


@dataclass(slots=True)
class _Slot:
    version: str
    entry: Entry | None
    since: float
    expires: float


class MemoryStore:
    """`observability.cache.store.Store` in a dictionary that is bounded in entries, not in bytes.

    The key that was used least recently makes room; entries that are dropped before their time are counted.

    Args:
        max_entries: How many keys are kept.
        telemetry: Where evictions are counted.
        clock: Seconds that never go back.
    """

    def __init__(self, max_entries: int, telemetry: Telemetry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        meter = telemetry.meter_provider.get_meter("observability.cache")
        self._evictions = meter.create_counter(*CACHE_EVICTIONS)

    async def read(self, key: str, *, hold_s: float) -> Found:
        """What is kept, or a version for what will be."""
        now = self._clock()
        slot = self._slots.get(key)
        if slot is None or slot.expires <= now:
            slot = self._slots[key] = _Slot(secrets.token_hex(8), None, now, now)
        if slot.entry is None:
            slot.expires = max(slot.expires, now + hold_s)
        self._slots.move_to_end(key)
        self._make_room(now)
        return Found(slot.version, slot.entry, now - slot.since)

    async def put(self, key: str, version: str, entry: Entry, *, life_s: float) -> bool:
        """Keep an entry, unless the key has another version by now."""
        now = self._clock()
        slot = self._slots.get(key)
        if slot is None or slot.expires <= now or slot.version != version:
            return False
        self._slots[key] = _Slot(version, entry, now, now + life_s)
        return True

    async def delete(self, *keys: str) -> None:
        """Forget keys."""
        for key in keys:
            self._slots.pop(key, None)

    async def aclose(self) -> None:
        """Forget everything."""
        self._slots.clear()

    def _make_room(self, now: float) -> None:
        while len(self._slots) > self._max_entries:
            _, dropped = self._slots.popitem(last=False)
            if dropped.entry is not None and dropped.expires > now:
                self._evictions.add(1)
