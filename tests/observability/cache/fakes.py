"""A clock that a test moves, and stores that fail or hang."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from observability.cache.store import Entry, Found, Store


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FailingStore:
    """`observability.cache.store.Store` that raises while it has an error, hangs while told to, or does as another."""

    store: Store
    error: Exception | None = None
    hangs: bool = False
    calls: list[str] = field(default_factory=list)

    async def _trouble(self, call: str) -> None:
        self.calls.append(call)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def read(self, key: str, *, hold_s: float) -> Found:
        await self._trouble("read")
        return await self.store.read(key, hold_s=hold_s)

    async def put(self, key: str, version: str, entry: Entry, *, life_s: float) -> bool:
        await self._trouble("put")
        return await self.store.put(key, version, entry, life_s=life_s)

    async def delete(self, *keys: str) -> None:
        await self._trouble("delete")
        await self.store.delete(*keys)

    async def aclose(self) -> None:
        await self.store.aclose()
