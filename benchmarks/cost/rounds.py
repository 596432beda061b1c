"""Rounds: every variant has its turn in each of them, and has to have sent what it should."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import psutil

from benchmarks.cost.figures import TAKEN, Turn, percentile
from benchmarks.cost.ledger import Ledger
from benchmarks.cost.load import Load, connect
from benchmarks.cost.order import BODY, PATH
from benchmarks.cost.process import Cores, Process, helper, start
from benchmarks.cost.variants import Variant

WARM_UP_S = 0.3


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


class Sink:
    """The receiver in its own process."""

    def __init__(self, process: psutil.Process, port: int) -> None:
        self.port = port
        self._process = process

    def counts(self, variant: Variant) -> Counter[str]:
        """What has come from a variant so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/counts", timeout=60) as answer:
            return Counter(json.load(answer).get(variant.name, {}))

    def cpu_s(self) -> float:
        """Its time of a processor."""
        return _cpu_s(self._process)


def serve_rounds(
    variants: Sequence[Variant], cells: Sequence[Cell], rounds: int, seconds: float, tries: int = 2
) -> Measured:
    """Load the variants' servers in turn; a round in which something else ran is repeated, up to so many tries.

    Raises:
        WrongAnswerError: A server answered wrongly.
        NothingSentError: A variant did not send what it should.
    """
    with running(variants, "server") as (sink, processes):
        for process in processes:
            process.wait_for_port()
        return _rounds(
            processes, sink, cells, partial(serve_turn, sink), rounds=rounds, seconds=seconds, tries=tries, calls=False
        )


def serve_turn(sink: Sink, process: Process, cell: Cell, seconds: float) -> tuple[int, Turn]:
    """Load one server; how many requests it has served, those before the measured ones too, and what was measured."""
    with connect(process.port, cell.concurrency, f"{PATH}?spans={cell.spans}", BODY) as connections:
        warm = connections.send(WARM_UP_S)
        cores, cpu_s, sink_s = Cores(), process.cpu_s(), sink.cpu_s()
        load = connections.send(seconds)
        cpu_s, others_s = process.cpu_s() - cpu_s, sink.cpu_s() - sink_s + load.busy_s
        taken = cores.taken(cpu_s, others_s)
    return len(warm.latencies_ns) + len(load.latencies_ns), _turn(load, cpu_s, process.rss_mb(), others_s, taken)


def call_rounds(
    variants: Sequence[Variant], cells: Sequence[Cell], rounds: int, seconds: float, tries: int = 2
) -> Measured:
    """Let the variants' clients call a server that answers at once; see `serve_rounds`.

    Raises:
        NothingSentError: A variant did not send what it should.
    """
    with (
        helper("benchmarks/transports.py", "serve") as (answering, port),
        running(variants, "client", f"http://127.0.0.1:{port}/") as (sink, processes),
    ):

        def told(process: Process, concurrency: int, seconds: float) -> Load:
            process.stdin.write(f"{concurrency} {seconds}\n")
            process.stdin.flush()
            if not (line := process.stdout.readline()):
                raise RuntimeError(f"{process.variant.name} ended; its own words are above")
            return Load(**json.loads(line))

        def turn(process: Process, cell: Cell, seconds: float) -> tuple[int, Turn]:
            warm = told(process, cell.concurrency, WARM_UP_S)
            cores, others_s = Cores(), _cpu_s(answering) + sink.cpu_s()
            load = told(process, cell.concurrency, seconds)
            others_s = _cpu_s(answering) + sink.cpu_s() - others_s
            taken = cores.taken(load.busy_s, others_s)
            done = len(warm.latencies_ns) + len(load.latencies_ns)
            return done, _turn(load, load.busy_s, process.rss_mb(), others_s, taken)

        return _rounds(processes, sink, cells, turn, rounds=rounds, seconds=seconds, tries=tries, calls=True)


def _turn(load: Load, cpu_s: float, rss_mb: float, others_s: float, taken: float) -> Turn:
    requests, took_s = len(load.latencies_ns), load.took_s
    return Turn(
        requests=requests,
        rate=load.rate,
        p50_ms=percentile(load.latencies_ns, 0.5) / 1e6,
        p99_ms=percentile(load.latencies_ns, 0.99) / 1e6,
        cpu_us=cpu_s / requests * 1e6,
        rss_mb=rss_mb,
        core=cpu_s / took_s,
        load=others_s / took_s,
        taken=taken,
    )


@contextmanager
def running(variants: Sequence[Variant], program: str, *arguments: str) -> Iterator[tuple[Sink, list[Process]]]:
    """A receiver, and the variants' servers or clients, which send to it."""
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
    turn: Callable[[Process, Cell, float], tuple[int, Turn]],
    *,
    rounds: int,
    seconds: float,
    tries: int,
    calls: bool,
) -> Measured:
    measured = Measured()
    ledgers = {process: Ledger(process.variant, calls=calls) for process in processes}

    def take_turn(process: Process, cell: Cell) -> Turn:
        with process.turn():
            requests, took = turn(process, cell, seconds)
        ledgers[process].note(requests, cell.spans, sink.counts(process.variant))
        return took

    for process in processes:
        process.pause()
    for process in processes:
        take_turn(process, cells[0])  # caches are filled; it is not measured
    for number in range(rounds):
        for cell in cells:
            for _ in range(tries):
                # In an order that turns by one each round, so that nobody always follows the same one.
                order = (*processes[number % len(processes) :], *processes[: number % len(processes)])
                took = [(process.variant, take_turn(process, cell)) for process in order]
                for variant, one in took:
                    measured.add(cell, variant, one)
                if max(one.taken for _, one in took) <= TAKEN:
                    break
    for process in processes:
        process.end()
        measured.arrived[process.variant.name] = ledgers[process].arrived(sink.counts(process.variant))
    return measured


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
