"""The times by which answers have to begin, watched by one timer for all of them.

Nearly every request ends long before its time. A timer of its own, as `asyncio.timeout` has it, would cost each of them
more than everything else that its deadline takes; here it costs an entry of a set.
"""

from __future__ import annotations

import asyncio

from observability.answer import Answer

RESOLUTION_S = 0.001
"""So much before its time a timer may come, in seconds: uvloop counts milliseconds."""


class Limit:
    """The limit of one request: when its time is over, its task is cancelled, unless the answer has begun.

    Attributes:
        deadline: In the event loop's time.
        expired: Whether the task was cancelled.
    """

    __slots__ = ("_answer", "_cancelled_before", "_task", "deadline", "expired")

    def __init__(self, answer: Answer, deadline: float) -> None:
        """Limit the current task.

        Raises:
            RuntimeError: There is none.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is served by a task")
        self.deadline = deadline
        self.expired = False
        self._answer = answer
        self._task = task
        self._cancelled_before = task.cancelling()

    def expire(self) -> None:
        """End the request, whose time is over."""
        if not self._answer.begun:
            self.expired = True
            self._task.cancel()

    def leave(self) -> bool:
        """Take the cancellation back, once, when the request has ended.

        Returns:
            Whether it was cancelled by this limit and by nobody else, as `asyncio.Timeout` tells it: then a
            CancelledError is this limit's.
        """
        return self.expired and self._task.uncancel() <= self._cancelled_before


class Watch:
    """Ends what is late in the running event loop. Its timer is set for the earliest time of all, and only then.

    Attributes:
        loop: The event loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._limits: set[Limit] = set()
        self._wakes_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limit: Limit) -> None:
        """Watch a limit."""
        self._limits.add(limit)
        if limit.deadline < self._wakes_at:
            self._wake_at(limit.deadline)

    def remove(self, limit: Limit) -> None:
        """Watch it no longer. The timer stays as it is: another request has most likely come by then."""
        self._limits.discard(limit)

    def _wake_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = time
        self._timer = self.loop.call_at(time, self._end_late)

    def _end_late(self) -> None:
        self._wakes_at, self._timer = float("inf"), None
        now = self.loop.time() + RESOLUTION_S
        for limit in [one for one in self._limits if one.deadline <= now]:
            self._limits.discard(limit)
            limit.expire()
        if self._limits:
            self._wake_at(min(one.deadline for one in self._limits))
