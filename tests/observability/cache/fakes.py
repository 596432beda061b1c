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
    """`observability.cache.store.Store` that does as another one, but may raise, or hang while its gate is shut."""

    store: Store
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def _trouble(self, call: str) -> None:
        self.calls.append(call)
        await self.gate.wait()
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
