"""Breakers that open on every replica when they open on one, through Redis.

No call waits for it: a task tells Redis what has opened here and asks what has opened elsewhere. Without Redis each
replica has its own breakers, as if nothing were shared. When a dependency is left alone by all, each replica probes it
by itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from observability.resilience.breaker import ELSEWHERE, Breaker

POLL_S: Final = 0.5
"""How long a replica may not know what another one knows, in seconds."""

TIMEOUT_S: Final = 0.2
COMPLAIN_EVERY_S: Final = 60.0

_STOP_TIMEOUT_S = 2.0

_PREFIX = "clearspan:breaker:1:"

logger = logging.getLogger(__name__)


class SharedBreakers:
    """The breakers of a service's replicas; enter it for the life of the application.

    Args:
        url: `redis://`, `rediss://`, `valkey://` or `valkeys://`.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self._redis: Redis = Redis.from_url(
            f"{scheme.replace('valkey', 'redis')}://{rest}",  # the same protocol, by a name that redis-py does not know
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._self = secrets.token_bytes(8)
        self._breakers: dict[str, Breaker] = {}
        self._to_tell: dict[str, float] = {}
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._quiet_until = float("-inf")

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="shared-breakers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not cancelled: redis-py may swallow that in the middle of a command, whose time is limited anyway.
        self._stopping = True
        self._something.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_STOP_TIMEOUT_S)
        await self._redis.aclose()

    def join(self, peer: str, breaker: Breaker) -> None:
        """Let a breaker open when the one of this name opens elsewhere."""
        self._breakers[peer] = breaker

    def opened(self, peer: str, seconds: float) -> None:
        """Tell the others that a breaker has opened here by its own failures, and for how long it stays so."""
        self._to_tell[peer] = seconds
        self._something.set()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._exchange()
            except (RedisError, OSError) as error:
                self._complain(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._something.wait()
            self._something.clear()

    async def _exchange(self) -> None:
        now = asyncio.get_running_loop().time
        async with self._redis.pipeline(transaction=False) as pipeline:
            for peer, seconds in self._to_tell.items():
                pipeline.set(_PREFIX + peer, self._self, px=max(1, int(seconds * 1000)))
            self._to_tell.clear()  # told once or not at all: what is late would open what has closed
            peers = list(self._breakers)
            for peer in peers:
                pipeline.get(_PREFIX + peer)
                pipeline.pttl(_PREFIX + peer)
            answers = (await pipeline.execute())[-2 * len(peers) :] if peers else []
        for peer, who, milliseconds in zip(peers, answers[::2], answers[1::2], strict=True):
            # What this replica has told itself it knows better: its probe may have succeeded by now.
            if milliseconds > 0 and who != self._self:
                self._breakers[peer].open_for(milliseconds / 1000, now(), ELSEWHERE)

    def _complain(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAIN_EVERY_S
            logger.warning("breakers are not shared while Redis does not answer: %s", type(error).__name__)
