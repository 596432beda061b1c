"""One load for all who wait for the same thing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Final

from opentelemetry.trace import Span

from observability.deadline import context_without_deadline

MAX_IN_BACKGROUND: Final = 100
"""How many loads may run that nobody waits for; a further one is not begun."""

_CLOSE_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)


class LoadCancelledError(RuntimeError):
    """The load was cancelled, by itself or because the cache was closed, and not by the caller that sees this."""


class Flight:
    """A load that runs, and those who wait for it.

    Args:
        span: The load's span.
        background: Whether it goes on though nobody waits.
    """

    def __init__(self, span: Span, *, background: bool) -> None:
        self.span = span
        self.background = background
        self.landed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]
        self.waiting = 0


class Flights:
    """The loads of one cache: at most one for each key at a time, each a task of its own that no caller owns.

    A load is cancelled when the last of its callers is, unless it runs in the background.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_background = 0
        self._closed = False

    def find(self, key: Hashable) -> Flight | None:
        """The flight for a key, while it runs."""
        return self._flights.get(key)

    def start(
        self, key: Hashable, load: Callable[[Flight], Coroutine[None, None, None]], span: Span, *, background: bool
    ) -> Flight:
        """Begin a load.

        Args:
            key: What is loaded; no flight for it may run.
            load: Sets the result of `Flight.landed` as soon as it is known, and may go on with work of its own.
            span: The load's span; it is ended here if the load has not done so.
            background: Whether it goes on though nobody waits.

        Raises:
            RuntimeError: The cache is closed.
        """
        if self._closed:
            raise RuntimeError("this cache is closed")
        flight = self._flights[key] = Flight(span, background=background)
        self._in_background += background
        # Not a try around the load: a task that is cancelled before its first step never enters it.
        context = context_without_deadline()  # the trace's, but not bounded by the one who came first
        flight.task = asyncio.get_running_loop().create_task(load(flight), name="cache-load", context=context)
        self._tasks.add(flight.task)
        flight.task.add_done_callback(partial(self._ended, key, flight))
        return flight

    @property
    def full(self) -> bool:
        """Whether no more loads are begun in the background."""
        return self._in_background >= MAX_IN_BACKGROUND

    async def wait(self, key: Hashable, flight: Flight) -> bytes:
        """The loaded value.

        Raises:
            LoadCancelledError: The load was cancelled.
            Exception: What the load raised.
        """
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.landed)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.background and not flight.landed.done():
                flight.task.cancel()
                self._forget(key, flight)  # at once, so that nobody joins what is about to end

    async def aclose(self) -> None:
        """Cancel what runs, and wait for it, for a second at most; nothing can be started any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_TIMEOUT_S)

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _ended(self, key: Hashable, flight: Flight, task: asyncio.Task[None]) -> None:
        self._forget(key, flight)
        self._tasks.discard(task)
        self._in_background -= flight.background
        if flight.span.is_recording():
            flight.span.end()
        error = LoadCancelledError("the load was cancelled") if task.cancelled() else task.exception()
        if not flight.landed.done():
            flight.landed.set_exception(error or RuntimeError("the load ended without a value"))
            flight.landed.exception()  # nobody may be waiting, and that is no fault
        elif error is not None and not task.cancelled():
            logger.error("a loaded value could not be kept", exc_info=error)
