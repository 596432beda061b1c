"""What is told of the figures: a line, tables, doubts, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from benchmarks.cost.figures import SHOWN, TAKEN, Spread, Turn, compare, medians, quiet_rounds
from benchmarks.cost.process import PINNED
from benchmarks.cost.rounds import Cell, Measured
from benchmarks.cost.variants import BARE

BUSY = 0.9
"""Beyond this share of a core on the load's side, the load may be what was measured."""

WHOLE = 0.98
"""Less than this share of what was sent, and it is told."""


_SHARED = ("python", "fastapi", "starlette", "pydantic_core", "uvicorn", "uvloop", "httptools", "httpx")
"""What an application without telemetry is made of."""


def differences(versions: Mapping[str, Mapping[str, str]], own: str) -> Iterator[str]:
    """What else than its telemetry is different in a peer's environment, by the versions in each."""
    for peer, its in versions.items():
        for name in _SHARED:
            if its.get(name) != versions[own].get(name):
                yield f"{peer} runs with {name} {its.get(name)}, the bare application with {versions[own].get(name)}"


def compared_to_bare(turns: dict[str, list[Turn]]) -> dict[str, dict[str, Spread]]:
    """What each variant's figures are as multiples of the bare one's, in the rounds that were quiet."""
    quiet = quiet_rounds(turns)
    return {name: compare(some, quiet[BARE.name]) for name, some in quiet.items()}


def line(turns: dict[str, list[Turn]], cell: Cell) -> str:
    """The quick form's line."""
    compared = {name: one for name, one in compared_to_bare(turns).items() if name != BARE.name}
    told = (
        f"{name} {one['rate']}, p99 x{one['p99_ms'].median:.1f}, CPU x{one['cpu_us'].median:.1f}"
        for name, one in compared.items()
    )
    return f"requests a second as a share of bare ({cell}; quartiles): bare 1, {'; '.join(told)}"


def tables(part: str, measured: Measured) -> Iterator[Table]:
    """A table for each cell."""
    for cell, turns in measured.turns.items():
        table = Table(title=f"{part}, {cell}: as multiples of bare", title_justify="left", box=None)
        table.add_column("", no_wrap=True)
        for title in SHOWN.values():
            table.add_column(title, justify="right", no_wrap=True)
        for name, compared in compared_to_bare(turns).items():
            if name != BARE.name:
                table.add_row(name, *(str(compared[figure]) for figure in SHOWN))
        yield table


def doubts(measured: Measured) -> Iterator[str]:
    """What may spoil the comparison."""
    for name, shares in measured.arrived.items():
        for signal in ("traces", "logs"):
            if shares.get(signal, 1) < WHOLE:
                yield f"{name} lost {1 - shares[signal]:.0%} of its {signal} on the way"
    for cell, turns in measured.turns.items():
        rounds, quiet = (len(some[BARE.name]) for some in (turns, quiet_rounds(turns)))
        disturbed = max(turn.taken for some in quiet_rounds(turns).values() for turn in some) > TAKEN
        if disturbed:
            yield f"{cell}: something else ran in nearly every round, and all of them are counted: measure again"
        elif quiet < rounds:
            yield f"{cell}: {rounds - quiet} of {rounds} rounds are left out, in which something else ran"
    every = [turn for turns in measured.turns.values() for some in turns.values() for turn in some]
    if PINNED and (most := max(turn.load for turn in every)) > BUSY:
        yield f"the side of the load was busy for {most:.0%} of a turn: it may be what was measured"


def figures(measured: Measured) -> dict[str, Any]:
    """A part as JSON."""
    return {
        "arrived": measured.arrived,
        "cells": [
            {
                **asdict(cell),
                "variants": {
                    name: {
                        "ratios": {figure: asdict(spread) for figure, spread in compared.items()},
                        "medians": medians(quiet_rounds(turns)[name]),
                        "turns": [asdict(turn) for turn in turns[name]],
                    }
                    for name, compared in compared_to_bare(turns).items()
                },
            }
            for cell, turns in measured.turns.items()
        ],
    }
