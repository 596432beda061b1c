"""Outcomes as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from drills.outcome import Outcome

_CLASSES = ("2xx", "4xx", "500", "502", "503", "504", "none")


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row for each outcome."""
    drawn = Table(box=box.SIMPLE)
    drawn.add_column("fault", no_wrap=True)
    columns = ("requests", *_CLASSES, "p50", "p99", "attempts/call", "recovered")
    for column in columns:
        drawn.add_column(column, justify="right", no_wrap=True)
    drawn.add_column("breaker", no_wrap=True)
    for one in outcomes:
        statuses = one.statuses()
        drawn.add_row(
            one.name,
            str(len(one.answers)),
            *(str(statuses[kind] or "") for kind in _CLASSES),
            f"{one.percentile(0.5):.2f} s",
            f"{one.percentile(0.99):.2f} s",
            f"{one.calls.attempts / one.calls.calls:.2f}" if one.calls.calls else "",
            "never" if one.recovered_s is None else f"{one.recovered_s:.1f} s",
            ", ".join(f"{state} {count:.0f}" for state, count in sorted(one.calls.changes.items())),
        )
    return drawn
