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
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cost.figures import SHOWN, Spread, Turn, compare, medians
from benchmarks.cost.plot import bars
from benchmarks.cost.process import PINNED, pin_load
from benchmarks.cost.rounds import Cell, Measured, call_rounds, serve_rounds
from benchmarks.cost.variants import BARE, QUICK, VARIANTS, MissingPeerError, Variant

QUICK_CELL, QUICK_ROUNDS, QUICK_SECONDS = Cell(32), 8, 1.0
SERVED = (Cell(32), Cell(32, 5), Cell(32, 20), Cell(1), Cell(8), Cell(128))
CALLED = (Cell(1), Cell(16))

BUSY = 0.9
"""Beyond this share of a core on the load's side, the load may be what was measured."""

_SMALL = 0.98


def main() -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one line: " + ", ".join(QUICK))
    parser.add_argument("--variants", help="some of " + ", ".join(variant.name for variant in VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--svg", type=Path, help="draw the requests a second there")
    told = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    variants = _chosen(console, told.variants.split(",") if told.variants else QUICK if told.quick else None)
    began, load = time.time(), os.getloadavg()
    pin_load()
    if not PINNED:
        console.print("there is one core: the load takes from what it measures")
    if told.quick:
        measured = serve_rounds(variants, [QUICK_CELL], QUICK_ROUNDS, QUICK_SECONDS)
        console.print(_line(measured.turns[QUICK_CELL], QUICK_CELL))
        parts = {"serving": measured}
    else:
        parts = {"serving": serve_rounds(variants, SERVED, told.rounds, told.seconds)}
        _show(console, "serving", parts["serving"])
        callers = [variant for variant in variants if variant.calls]
        parts["calling"] = call_rounds(callers, CALLED, told.rounds, told.seconds)
        _show(console, "calling", parts["calling"])
    for part in parts.values():
        _warn(console, part)
    if told.json is not None:
        document = {"machine": _machine(began, load), "versions": {one.name: one.versions() for one in variants}}
        document |= {name: _figures(part) for name, part in parts.items()}
        told.json.write_text(json.dumps(document, indent=1) + "\n")
    if told.svg is not None:
        cell = next(iter(parts["serving"].turns))
        shares = {name: compared["rate"] for name, compared in _compared(parts["serving"].turns[cell]).items()}
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


def _compared(turns: dict[str, list[Turn]]) -> dict[str, dict[str, Spread]]:
    return {name: compare(some, turns[BARE.name]) for name, some in turns.items()}


def _line(turns: dict[str, list[Turn]], cell: Cell) -> str:
    """The quick form's line."""
    compared = {name: one for name, one in _compared(turns).items() if name != BARE.name}
    told = (
        f"{name} {one['rate']}, p99 x{one['p99_ms'].median:.1f}, CPU x{one['cpu_us'].median:.1f}"
        for name, one in compared.items()
    )
    return f"requests a second as a share of bare ({cell}; quartiles): bare 1, {'; '.join(told)}"


def _show(console: Console, part: str, measured: Measured) -> None:
    for cell, turns in measured.turns.items():
        table = Table(title=f"{part}, {cell}: times the bare one's", title_justify="left", box=None)
        table.add_column("")
        for title in SHOWN.values():
            table.add_column(title, justify="right")
        for name, compared in _compared(turns).items():
            table.add_row(name, *(str(compared[figure]) for figure in SHOWN))
        console.print(table)


def _warn(console: Console, measured: Measured) -> None:
    """Say what may spoil the comparison."""
    for name, shares in measured.arrived.items():
        for signal in ("traces", "logs"):
            if shares.get(signal, 1) < _SMALL:
                console.print(f"{name} lost {1 - shares[signal]:.0%} of its {signal} on the way")
    every = [turn for turns in measured.turns.values() for some in turns.values() for turn in some]
    if PINNED and (most := max(turn.load for turn in every)) > BUSY:
        console.print(f"the side of the load was busy for {most:.0%} of a turn: it may be what was measured")


def _figures(measured: Measured) -> dict[str, Any]:
    """A part as JSON."""
    return {
        "arrived": measured.arrived,
        "cells": [
            {
                **asdict(cell),
                "variants": {
                    name: {
                        "ratios": {figure: asdict(spread) for figure, spread in compare(some, turns[BARE.name]).items()},
                        "medians": medians(some),
                        "turns": [asdict(turn) for turn in some],
                    }
                    for name, some in turns.items()
                },
            }
            for cell, turns in measured.turns.items()
        ],
    }


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
