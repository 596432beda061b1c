"""What came of a load, counted in bounded memory however long it lasts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from rich.table import Table

from observability.load.load import Answer

_STEPS = 40
"""Times are told apart in so many steps for each factor of e: to 2.5 %."""

_LEAST_S = 1e-4


class Tally:
    """Answers by name and status, and how long they took.

    Args:
        names: Of the requests, in the order in which they are shown.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._statuses: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._times: dict[str, Counter[int]] = {name: Counter() for name in self._statuses}

    def add(self, answer: Answer) -> None:
        """Count an answer; one that never came counts as such, and not for the times."""
        name = answer.request.name
        self._statuses[name]["no answer" if answer.status is None else str(answer.status)] += 1
        if answer.status is not None:
            self._times[name][round(_STEPS * math.log(max(answer.seconds, _LEAST_S)))] += 1

    def count(self) -> int:
        """How many answers there were."""
        return self._all().total()

    def line(self) -> str:
        """How many answers had which status: `201: 20, 402: 3`."""
        return _by_status(self._all())

    def table(self) -> Table:
        """A row for each kind of request, and one for all."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for heading in ("answers", "p50", "p95"):
            table.add_column(heading, justify="right")
        table.add_column("by status")
        for name, statuses in self._statuses.items():
            table.add_row(*_row(name, statuses, self._times[name]))
        table.add_row(*_row("all", self._all(), sum(self._times.values(), Counter())))
        return table

    def _all(self) -> Counter[str]:
        return sum(self._statuses.values(), Counter())


def _row(name: str, statuses: Counter[str], times: Counter[int]) -> tuple[str, ...]:
    return name, str(statuses.total()), _percentile(times, 0.5), _percentile(times, 0.95), _by_status(statuses)


def _by_status(statuses: Counter[str]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))


def _percentile(times: Counter[int], share: float) -> str:
    """The time within which this share of the answers came, in milliseconds."""
    rank = math.ceil(share * times.total())
    for step, count in sorted(times.items()):
        rank -= count
        if rank <= 0:
            return f"{1000 * math.exp(step / _STEPS):.3g} ms"
    return "-"
