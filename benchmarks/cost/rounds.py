"""Rounds: every variant has its turn in each of them, and has to have sent what it should."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.cost.figures import Turn, percentile
from benchmarks.cost.load import connect
from benchmarks.cost.order import BODY, PATH
from benchmarks.cost.process import Process, helper, start
from benchmarks.cost.variants import Variant

WARM_UP_S = 0.3

# A batch of the SDK's is 512, and up to a queue of four of them may wait when a turn ends.
_WAITING = 4 * 512


class NothingSentError(Exception):
    """A variant did not send what it should have: its figures would be no comparison."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one comparison is made at."""

    concurrency: int
    spans: int = 1

    def __str__(self) -> str:
        return f"{self.concurrency} at once, {self.spans} span{'s' if self.spans > 1 else ''} a request"


@dataclass(slots=True)
class Measured:
    """The turns of each variant in each cell, and what share of its spans and logs arrived in the end."""

    turns: dict[Cell, dict[str, list[Turn]]] = field(default_factory=dict)
    arrived: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, cell: Cell, variant: Variant, turn: Turn) -> None:
        """Note a turn."""
        self.turns.setdefault(cell, {}).setdefault(variant.name, []).append(turn)


@dataclass(slots=True)
class Expected:
    """What a variant should have sent so far, at least."""

    spans: int = 0
    logs: int = 0

    def add(self, variant: Variant, requests: int, spans: int, *, logs: bool) -> None:
        """Note requests of so many spans each."""
        if variant.spans:
            self.spans += requests * (variant.spans + spans - 1)
            self.logs += requests * variant.logs if logs else 0


class Sink:
    """The receiver in its own process."""

    def __init__(self, process: psutil.Process, port: int) -> None:
        self.port = port
        self._process = process

    def counts(self, variant: Variant) -> Counter[str]:
        """What has come from a variant so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/counts", timeout=60) as answer:  # noqa: S310 - http
            return Counter(json.load(answer).get(variant.name, {}))

    def cpu_s(self) -> float:
        """Its time of a processor."""
        return _cpu_s(self._process)


def serve_rounds(variants: Sequence[Variant], cells: Sequence[Cell], rounds: int, seconds: float) -> Measured:
    """Load the variants' servers in turn.

    Raises:
        WrongAnswerError: A server answered wrongly.
        NothingSentError: A variant sent no telemetry in a turn, or no metrics at all.
    """
    with _running(variants, "server") as (sink, processes):
        for process in processes:
            process.wait_for_port()

        def turn(process: Process, cell: Cell) -> tuple[int, Turn]:
            path = f"{PATH}?spans={cell.spans}"
            with connect(process.port, cell.concurrency, path, BODY) as connections:
                warm = connections.send(WARM_UP_S)
                cpu_s, sink_s = process.cpu_s(), sink.cpu_s()
                load = connections.send(seconds)
                cpu_s, sink_s = process.cpu_s() - cpu_s, sink.cpu_s() - sink_s
            requests = len(load.latencies_ns)
            return requests + len(warm.latencies_ns), _turn(
                load.latencies_ns, load.took_s, cpu_s, process.rss_mb(), load.busy_s + sink_s
            )

        return _rounds(processes, sink, cells, rounds, turn, logs=True)


def call_rounds(variants: Sequence[Variant], cells: Sequence[Cell], rounds: int, seconds: float) -> Measured:
    """Let the variants' clients call a server that answers at once, in turn.

    Raises:
        NothingSentError: A variant sent no telemetry in a turn, or no metrics at all.
    """
    with (
        helper("benchmarks/transports.py", "serve") as (answering, port),
        _running(variants, "client", f"http://127.0.0.1:{port}/") as (sink, processes),
    ):

        def told(process: Process, concurrency: int, seconds: float) -> dict[str, float | list[int]]:
            process.stdin.write(f"{concurrency} {seconds}\n")
            process.stdin.flush()
            if not (line := process.stdout.readline()):
                raise NothingSentError(f"{process.variant.name} ended; its own words are above")
            result: dict[str, float | list[int]] = json.loads(line)
            return result

        def turn(process: Process, cell: Cell) -> tuple[int, Turn]:
            warm = told(process, cell.concurrency, WARM_UP_S)
            others_s = _cpu_s(answering) + sink.cpu_s()
            result = told(process, cell.concurrency, seconds)
            others_s = _cpu_s(answering) + sink.cpu_s() - others_s
            latencies, took_s, busy_s = result["latencies_ns"], result["took_s"], result["busy_s"]
            assert isinstance(latencies, list)
            assert isinstance(took_s, float)
            assert isinstance(busy_s, float)
            assert isinstance(warm["latencies_ns"], list)
            return len(latencies) + len(warm["latencies_ns"]), _turn(
                latencies, took_s, busy_s, process.rss_mb(), others_s
            )

        return _rounds(processes, sink, cells, rounds, turn, logs=False)


def _turn(latencies_ns: list[int], took_s: float, cpu_s: float, rss_mb: float, others_s: float) -> Turn:
    return Turn(
        requests=len(latencies_ns),
        rate=len(latencies_ns) / took_s,
        p50_ms=percentile(latencies_ns, 0.5) / 1e6,
        p99_ms=percentile(latencies_ns, 0.99) / 1e6,
        cpu_us=cpu_s / len(latencies_ns) * 1e6,
        rss_mb=rss_mb,
        core=cpu_s / took_s,
        load=others_s / took_s,
    )


@contextmanager
def _running(variants: Sequence[Variant], program: str, *arguments: str) -> Iterator[tuple[Sink, list[Process]]]:
    with ExitStack() as stack:
        seen, port = stack.enter_context(helper("-m", "benchmarks.cost.sink"))
        yield (
            Sink(seen, port),
            [start(stack, variant, port, program, *arguments) for variant in variants],
        )


def _rounds(
    processes: Sequence[Process],
    sink: Sink,
    cells: Sequence[Cell],
    rounds: int,
    turn: Callable[[Process, Cell], tuple[int, Turn]],
    *,
    logs: bool,
) -> Measured:
    measured = Measured()
    expected = {process.variant.name: Expected() for process in processes}
    for process in processes:
        process.pause()
    for process in processes:  # caches are filled; it is not measured
        with process.turn():
            requests, _ = turn(process, cells[0])
        expected[process.variant.name].add(process.variant, requests, cells[0].spans, logs=logs)
    for number in range(rounds):
        for cell in cells:
            # In an order that turns by one each round, so that nobody always follows the same one.
            for process in (*processes[number % len(processes) :], *processes[: number % len(processes)]):
                before = sink.counts(process.variant)
                with process.turn():
                    requests, took = turn(process, cell)
                expected[process.variant.name].add(process.variant, requests, cell.spans, logs=logs)
                measured.add(cell, process.variant, took)
                _check(process.variant, sink.counts(process.variant) - before, requests, cell.spans, logs=logs)
    for process in processes:
        process.end()
        measured.arrived[process.variant.name] = _arrived(
            process.variant, sink.counts(process.variant), expected[process.variant.name]
        )
    return measured


def _check(variant: Variant, came: Counter[str], requests: int, spans: int, *, logs: bool) -> None:
    """One turn: whatever cannot still be waiting has to have come, some of it at least."""
    should = Expected()
    should.add(variant, requests, spans, logs=logs)
    for signal, count in (("traces", should.spans), ("logs", should.logs)):
        if count > _WAITING and not came[signal]:
            raise NothingSentError(f"{variant.name} served {requests} requests and sent no {signal}")


def _arrived(variant: Variant, came: Counter[str], should: Expected) -> dict[str, float]:
    """The share that came of what should have; more than 1 where a variant sends more than it has to."""
    if not variant.spans:
        return {}
    if variant.metrics and not came["metrics"]:
        raise NothingSentError(f"{variant.name} sent no metrics")
    shares = {"traces": came["traces"] / should.spans}
    if should.logs:
        shares["logs"] = came["logs"] / should.logs
    for signal, share in shares.items():
        if not share:
            raise NothingSentError(f"{variant.name} sent no {signal}")
    return {**shares, "bytes": came["bytes"]}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
