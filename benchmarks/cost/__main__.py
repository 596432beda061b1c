"""`python -m benchmarks.cost`: what telemetry costs, side by side in one run; `--quick` takes less than a minute.

Every variant serves the same small JSON route with one log line, exports to a receiver that only swallows, has one
process on one core, and is loaded from the other core. Then the variants that observe calls call a server that answers
at once. All have their turns in every round; each figure is the median over the rounds of the ratio to the bare variant
in the same round, with the quartiles. Times by themselves say more about the machine than about the code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cost.outage import outage
from benchmarks.cost.plot import bars
from benchmarks.cost.process import PINNED, pin_load
from benchmarks.cost.report import compared_to_bare, differences, doubts, figures, line, tables
from benchmarks.cost.rounds import Cell, call_rounds, serve_rounds
from benchmarks.cost.soak import soak
from benchmarks.cost.variants import BARE, QUICK, VARIANTS, MissingPeerError, Variant

QUICK_CELL, QUICK_ROUNDS, QUICK_SECONDS = Cell(32), 8, 1.0
SERVED = (Cell(32), Cell(32, 5), Cell(32, 20), Cell(1), Cell(8), Cell(128))
CALLED = (Cell(1), Cell(16))

OWN = "clearspan"
"""What this project's own environment is called beside those of the peers."""

_WIDTH = 132


def main() -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one line: " + ", ".join(QUICK))
    parser.add_argument("--variants", help="some of " + ", ".join(variant.name for variant in VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only memory, after so long at full load")
    parser.add_argument(
        "--outage", type=float, metavar="SECONDS", help="only full load for so long, a third of it alone"
    )
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--svg", type=Path, help="draw the requests a second there")
    told = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
    variants = _chosen(console, told.variants.split(",") if told.variants else QUICK if told.quick else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends too
    began, load = time.time(), os.getloadavg()
    pin_load()
    if not PINNED:
        console.print("there is one core: the load takes from what it measures")
    versions = {variant.peer or OWN: variant.versions() for variant in variants}
    for difference in differences(versions, OWN):
        console.print(difference)
    document: dict[str, Any] = {"versions": versions}
    parts = {}
    if told.soak:
        document["soaked"] = soak(variants, QUICK_CELL, told.soak, console.print)
    elif told.outage:
        document["outage"] = outage(variants, QUICK_CELL, told.outage, console.print)
    elif told.quick:
        parts["serving"] = serve_rounds(variants, [QUICK_CELL], QUICK_ROUNDS, QUICK_SECONDS, tries=1)
        console.print(line(parts["serving"].turns[QUICK_CELL], QUICK_CELL))
    else:
        callers = [variant for variant in variants if variant.calls]
        parts["serving"] = serve_rounds(variants, SERVED, told.rounds, told.seconds)
        parts["calling"] = call_rounds(callers, CALLED, told.rounds, told.seconds)
        for name, part in parts.items():
            for table in tables(name, part):
                console.print(table)
    for name, part in parts.items():
        document[name] = figures(part)
        for doubt in doubts(part):
            console.print(f"{name}: {doubt}")
    if told.json is not None:
        told.json.write_text(json.dumps({"machine": _machine(began, load), **document}, indent=1) + "\n")
    if told.svg is not None and parts:
        cell, turns = next(iter(parts["serving"].turns.items()))
        shares = {name: compared["rate"] for name, compared in compared_to_bare(turns).items()}
        told.svg.write_text(bars(f"Requests a second, as a share of the bare application ({cell})", shares))
    return 0


def _chosen(console: Console, names: Sequence[str] | None) -> list[Variant]:
    """The variants that can run here, the bare one first."""
    known = {variant.name: variant for variant in VARIANTS}
    if unknown := set(names or ()) - set(known):
        sys.exit(f"there is no variant {', '.join(sorted(unknown))}")
    chosen = []
    for variant in known.values():
        if names is None or variant.name in names or variant is BARE:
            try:
                variant.python()
            except MissingPeerError as error:
                console.print(f"without {variant.name}: {error}")
            else:
                chosen.append(variant)
    return chosen


def _machine(began: float, load: tuple[float, float, float]) -> dict[str, Any]:
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if not PINNED else os.cpu_count(),
        "pinned": PINNED,
        "system": platform.platform(),
        "load_before": load[0],
        "took_s": round(time.time() - began),
        "at": time.strftime("%Y-%m-%d", time.gmtime(began)),
    }


if __name__ == "__main__":
    sys.exit(main())
