"""`python -m drills`: break one thing after the other under load, and print what became of it.

First what the shop depends on fails in many ways, one at a time; then processes are killed at random; then two replicas
share one outbox.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from drills.crashes import LONG as LONG_CRASHES
from drills.crashes import SHORT as SHORT_CRASHES
from drills.crashes import crash
from drills.drill import LONG, SHORT, drill
from drills.processes import redis_server
from drills.replicas import LONG as LONG_REPLICAS
from drills.replicas import SHORT as SHORT_REPLICAS
from drills.replicas import replicate
from drills.report import table
from drills.scenarios import SCENARIOS
from drills.servers import missing

_WIDTH = 160
"""Wider than many terminals: a table that is cut says nothing."""


class _Outcome(Protocol):
    """What became of a run that is told in words."""

    @property
    def name(self) -> str: ...

    def failures(self) -> Iterator[str]: ...

    def told(self) -> str: ...


_Run = Callable[[Path, Callable[[str], None]], Coroutine[Any, Any, _Outcome]]


def main() -> int:
    """Run the drill; 0 if all that is asked for holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the scenarios' names; all without")
    parser.add_argument("--short", action="store_true", help="a few seconds a scenario, as in CI")
    chosen = parser.parse_args()

    def is_chosen(name: str) -> bool:
        return not chosen.names or any(part in name for part in chosen.names)

    scenarios = [one for one in SCENARIOS if is_chosen(one.name)]
    crashes, replicas = (SHORT_CRASHES, SHORT_REPLICAS) if chosen.short else (LONG_CRASHES, LONG_REPLICAS)
    console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
    absent = missing()
    if absent and not chosen.short:
        servers = [one.name for one in crashes if one.servers] + [one.name for one in replicas if one.servers]
        console.print(f"not installed: {', '.join(absent)}; left out: {', '.join(servers)}")
    runs: list[_Run] = [partial(crash, one) for one in crashes if is_chosen(one.name) and not (absent and one.servers)]
    runs += [partial(replicate, one) for one in replicas if is_chosen(one.name) and not (absent and one.servers)]
    if redis_server() is None and (without := [one for one in scenarios if one.reads]):
        console.print(f"redis-server is not installed; left out: {', '.join(one.name for one in without)}")
        scenarios = [one for one in scenarios if one not in without]
    if not scenarios and not runs:
        console.print("no scenario to run")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="clearspan-drill-"))
    failures = []
    for number in range(1 + len(runs)):
        (folder / str(number)).mkdir()
    if scenarios:
        outcomes = asyncio.run(drill(scenarios, SHORT if chosen.short else LONG, folder / "0", console.print))
        console.print(table(outcomes))
        for one in outcomes:
            console.print(f"[bold]{one.name}[/]: {escape(one.trace)}")
        failures += [f"{one.name}: {failure}" for one in outcomes for failure in one.failures()]
    for number, run in enumerate(runs, 1):
        outcome = asyncio.run(run(folder / str(number), console.print))
        console.print(f"[bold]{outcome.name}[/]\n{escape(outcome.told())}")
        failures += [f"{outcome.name}: {failure}" for failure in outcome.failures()]
    for failure in failures:
        console.print(f"[red]does not hold[/] {escape(failure)}")
    if failures:
        console.print(f"what the processes wrote is in {folder}")
        return 1
    console.print("all holds")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
