"""What one scenario came to, and what is asked of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from observability.load.load import Answer
from observability.resilience.budget import MAX_SAVED
from observability.resilience.bulkhead import BulkheadOptions
from observability.resilience.retry import RetryOptions
from service.orders import clients

DEADLINE_S = 2 * clients.CALL_S
"""Of an order, in seconds: for a call that fails and one that undoes what it may have done."""
RECOVERY_S = 10.0
MAX_MORE_MEMORY_BYTES = 64 * 1024 * 1024
MAX_MORE_TASKS = 10
MAX_MORE_SOCKETS = 2 * BulkheadOptions().max_calls + 40
"""The pools of connections between the services may have filled meanwhile, and some clients have kept theirs open."""
SLACK = 1.1
"""Of the time, for what is not a wait: a busy machine computes too."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What orders counted of its calls to one service: attempts that left, retries, refusals, breaker changes."""

    attempts: float
    retries: float
    refusals: float
    changes: Mapping[str, float]

    def since(self, before: Calls) -> Calls:
        """What was counted meanwhile."""
        changes = {state: count - before.changes.get(state, 0) for state, count in self.changes.items()}
        return Calls(
            self.attempts - before.attempts,
            self.retries - before.retries,
            self.refusals - before.refusals,
            {state: count for state, count in changes.items() if count},
        )

    @property
    def calls(self) -> float:
        """How many there were: each begins with an attempt or a refusal, and each retry adds another one."""
        return self.attempts + self.refusals - self.retries


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds."""

    memory_bytes: int
    sockets: int
    tasks: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario's outcome.

    Attributes:
        name: The scenario's.
        harmless: Whether no customer might notice.
        answers: All answers, those after the end of the fault too.
        calls: What orders counted of the failing side.
        recovered_s: Seconds from the end of the fault until answers were good again and stayed so; None if they were
            not within RECOVERY_S.
        before, after: What each process held.
        trace: A line of an example trace.
    """

    name: str
    harmless: bool
    answers: Sequence[Answer]
    calls: Calls
    recovered_s: float | None
    before: Mapping[str, Resources]
    after: Mapping[str, Resources]
    trace: str

    def statuses(self) -> Counter[str]:
        """Answers by class: `2xx`, `4xx`, `500`, each of `502`, `503`, `504`, and `none`."""
        return Counter(_kind(answer.status) for answer in self.answers)

    def percentile(self, share: float) -> float:
        """How long so many of the answers took at most, in seconds."""
        ordered = sorted(answer.seconds for answer in self.answers)
        return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0

    def failures(self) -> Iterator[str]:
        """Each thing that is asked of it and does not hold."""
        statuses = self.statuses()
        if self.percentile(0.99) > DEADLINE_S * SLACK:
            yield f"p99 is {self.percentile(0.99):.1f} s, the deadline {DEADLINE_S:g} s"
        most = (1 + RetryOptions().budget_ratio) * self.calls.calls + MAX_SAVED
        if self.calls.attempts > most:
            yield f"{self.calls.attempts:.0f} attempts for {self.calls.calls:.0f} calls"
        if self.recovered_s is None:
            yield f"not recovered within {RECOVERY_S:g} s of the fault's end"
        if statuses["500"] or statuses["none"]:
            yield f"{statuses['500']} answers of 500, {statuses['none']} requests without an answer"
        if self.harmless and (bad := sum(not answer.good for answer in self.answers)):
            yield f"{bad} customers noticed"
        for name, after in self.after.items():
            yield from _grown(name, self.before[name], after)


def _grown(name: str, before: Resources, after: Resources) -> Iterator[str]:
    if (memory := after.memory_bytes - before.memory_bytes) > MAX_MORE_MEMORY_BYTES:
        yield f"{name} has {memory / 2**20:.0f} MiB more memory"
    if (sockets := after.sockets - before.sockets) > MAX_MORE_SOCKETS:
        yield f"{name} has {sockets} sockets more"
    if (tasks := after.tasks - before.tasks) > MAX_MORE_TASKS:
        yield f"{name} has {tasks:g} tasks more"


def _kind(status: int | None) -> str:
    if status is None:
        return "none"
    return str(status) if status >= 500 else f"{status // 100}xx"  # noqa: PLR2004 - HTTP's own number
