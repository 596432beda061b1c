"""`python -m drills`: break one thing after the other under load, and print what became of it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from drills.drill import LONG, SHORT, drill
from drills.processes import redis_server
from drills.report import table
from drills.scenarios import SCENARIOS

_WIDTH = 160
"""Wider than many terminals: a table that is cut says nothing."""


def main() -> int:
    """Run the drill; 0 if all that is asked for holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the scenarios' names; all without")
    parser.add_argument("--short", action="store_true", help="a few seconds a scenario, as in CI")
    chosen = parser.parse_args()
    scenarios = [one for one in SCENARIOS if not chosen.names or any(name in one.name for name in chosen.names)]
    console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
    if redis_server() is None and (without := [one for one in scenarios if one.reads]):
        console.print(f"redis-server is not installed; left out: {', '.join(one.name for one in without)}")
        scenarios = [one for one in scenarios if one not in without]
    if not scenarios:
        console.print("no scenario to run")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="clearspan-drill-"))
    outcomes = asyncio.run(drill(scenarios, SHORT if chosen.short else LONG, folder, console.print))
    console.print(table(outcomes))
    for one in outcomes:
        console.print(f"[bold]{one.name}[/]: {escape(one.trace)}")
    failures = [f"{one.name}: {failure}" for one in outcomes for failure in one.failures()]
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
