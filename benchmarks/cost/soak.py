"""Memory under full load for a long time, while the receiver takes everything, and while nobody listens there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.cost.ledger import Ledger
from benchmarks.cost.process import Process, free_port
from benchmarks.cost.rounds import Cell, Sink, running, serve_turn
from benchmarks.cost.variants import Variant

SLICE_S = 5.0


def soak(
    variants: Sequence[Variant], cell: Cell, seconds: float, tell: Callable[[str], object]
) -> dict[str, dict[str, list[float]]]:
    """Load one variant after the other, each for so long with a receiver and without; the memory in MB every 5 s.

    Raises:
        WrongAnswerError: A server answered wrongly.
        NothingSentError: A variant did not send what it should while there was a receiver.
    """
    soaked: dict[str, dict[str, list[float]]] = {}
    for variant in variants:
        for way, one in (("receiver", variant), ("no receiver", _sends_to_nobody(variant))):
            with running([one], "server") as (sink, (process,)):
                process.wait_for_port()
                memory = _load(process, sink, cell, seconds, Ledger(variant) if one is variant else None)
            soaked.setdefault(variant.name, {})[way] = memory
            told = f"{memory[0]:.0f} MB at first, {memory[len(memory) // 2]:.0f} half-way, {memory[-1]:.0f} in the end"
            tell(f"{variant.name}, {way}: {told}, at most {max(memory):.0f}")
    return soaked


def _load(process: Process, sink: Sink, cell: Cell, seconds: float, ledger: Ledger | None) -> list[float]:
    memory: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not memory:
        with process.turn():
            requests, turn = serve_turn(sink, process, cell, min(SLICE_S, seconds))
        if ledger is not None:
            ledger.note(requests, cell.spans, sink.counts(process.variant))
        memory.append(turn.rss_mb)
    return memory


def _sends_to_nobody(variant: Variant) -> Variant:
    """The same, whose exporters are refused."""
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "DD_TRACE_AGENT_URL": nobody}
    return replace(variant, environment=variant.environment | environment)
