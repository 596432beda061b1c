"""Full load while the receiver is there, is gone, and is back: memory, and what became of each span and log record."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.cost.load import Connections, connect
from benchmarks.cost.order import BODY, PATH
from benchmarks.cost.process import Process, free_port, helper, start
from benchmarks.cost.rounds import Cell
from benchmarks.cost.variants import Variant

SLICE_S = 5.0


def outage(
    variants: Sequence[Variant], cell: Cell, seconds: float, tell: Callable[[str], object]
) -> dict[str, dict[str, Any]]:
    """Load one variant after the other; the receiver is gone in the second third of the time.

    Of each signal: `made` by the requests, `arrived`, and `lost` as the variant's own metrics say. What made the
    numbers differ was lost without a word.

    Raises:
        WrongAnswerError: A server answered wrongly.
    """
    return {variant.name: _outage(variant, cell, seconds / 3, tell) for variant in variants if variant.spans}


def _outage(variant: Variant, cell: Cell, part_s: float, tell: Callable[[str], object]) -> dict[str, Any]:
    port = free_port()
    memory: dict[str, list[float]] = {}
    requests = 0
    with ExitStack() as stack:
        sink = stack.enter_context(ExitStack())
        sink.enter_context(helper("-m", "benchmarks.cost.sink", str(port)))
        process = start(stack, variant, port, "server")
        process.wait_for_port()
        with connect(process.port, cell.concurrency, f"{PATH}?spans={cell.spans}", BODY) as connections:
            for phase in ("there", "gone", "back"):
                if phase == "gone":
                    came, _ = _end(port, variant)
                    sink.close()
                elif phase == "back":
                    stack.enter_context(helper("-m", "benchmarks.cost.sink", str(port)))
                served, memory[phase] = _load(connections, process, part_s)
                requests += served
                kept = memory[phase]
                tell(f"{variant.name}, receiver {phase}: {served} requests, {kept[0]:.0f} to {kept[-1]:.0f} MB")
        process.end()
        later, lost = _end(port, variant)
    came += later
    made = {
        "traces": requests * (variant.spans + cell.spans - 1),
        "logs": requests * variant.logs,
    }
    for signal, count in made.items():
        tell(f"{variant.name}, {signal}: {count} made, {came[signal]} arrived")
    tell(f"{variant.name} says that it lost {lost or 'nothing'}")
    return {"made": made, "arrived": dict(came), "lost": lost, "memory_mb": memory}


def _load(connections: Connections, process: Process, seconds: float) -> tuple[int, list[float]]:
    served, memory = 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        served += len(connections.send(min(SLICE_S, seconds)).latencies_ns)
        memory.append(process.rss_mb())
    return served, memory


def _end(port: int, variant: Variant) -> tuple[Counter[str], dict[str, float]]:
    """What has arrived at a receiver, which takes no more, and what the variant says it has lost."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/end", timeout=60) as answer:
        came, lost = json.load(answer)
    return Counter(came.get(variant.name, {})), lost.get(variant.name, {})
