"""The processes of a run: on which core each runs, and that only one of the variants runs at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO

import psutil

from benchmarks.cost.variants import ROOT, Variant

START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 30.0

_cores = sorted(os.sched_getaffinity(0))
PINNED = len(_cores) > 1
VARIANT_CORE, OTHER_CORE = _cores[-1], _cores[0]


class Process:
    """A running variant, which is stopped (SIGSTOP) unless it is its turn.

    So the others take nothing from the one that is measured, and each one pays in its own turns for what it exports.
    """

    def __init__(self, variant: Variant, process: subprocess.Popen[str], port: int = 0) -> None:
        self.variant = variant
        self.port = port
        self._process = process
        self._seen = psutil.Process(process.pid)

    @property
    def stdin(self) -> IO[str]:
        """What a client is told by."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[str]:
        """What a client answers on."""
        assert self._process.stdout is not None
        return self._process.stdout

    def cpu_s(self) -> float:
        """The time of a processor that all its threads have taken."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def rss_mb(self) -> float:
        """Resident memory."""
        return self._seen.memory_info().rss / 1e6

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let it run for as long as the block does."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def pause(self) -> None:
        """Stop it until its turn."""
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Ask it to end, which flushes its telemetry, and wait."""
        self._process.send_signal(signal.SIGCONT)
        if self._process.stdin is not None:
            self._process.stdin.close()
        else:
            self._process.send_signal(signal.SIGINT)  # uvicorn dies of a SIGTERM without running what atexit has
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_for_port(self) -> None:
        """Return when it listens.

        Raises:
            RuntimeError: It does not; its own words are on stderr.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.variant.name} does not listen")


@contextmanager
def helper(*command: str) -> Iterator[tuple[psutil.Process, int]]:
    """A Python program on the load's core that prints its port: itself, and that."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        _pin(process.pid, OTHER_CORE)
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
    finally:
        _kill(process)


def start(stack: ExitStack, variant: Variant, sink_port: int, program: str, *arguments: str) -> Process:
    """Start a variant's server or client, on the variants' core, sending to the sink."""
    listens = program == "server"
    port = free_port() if listens else 0
    process = subprocess.Popen(
        [
            variant.python(),
            "-m",
            f"benchmarks.cost.{program}",
            variant.module,
            *([str(port)] if listens else arguments),
        ],
        cwd=ROOT,
        env=_environment(variant, sink_port),
        stdin=subprocess.DEVNULL if listens else subprocess.PIPE,
        stdout=subprocess.DEVNULL if listens else subprocess.PIPE,
        text=True,
    )
    started = Process(variant, process, port)
    stack.callback(_kill, process)
    _pin(process.pid, VARIANT_CORE)
    return started


def _environment(variant: Variant, sink_port: int) -> Mapping[str, str]:
    """Without what the caller's shell says of telemetry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DD_", "CLEARSPAN_"))}
    sent = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink_port}/{variant.name}",
        "OTEL_SERVICE_NAME": "shop",
        "DD_TRACE_AGENT_URL": f"http://127.0.0.1:{sink_port}",
    }
    return kept | (sent if variant.spans else {}) | variant.environment


class Cores:
    """What the two cores do, from now on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy_s = _busy_s()

    def taken(self, variant_s: float, others_s: float) -> float:
        """The share of the time in which something else had one of them, beside what the two sides have used of theirs.

        On one core nothing can be told apart.
        """
        took_s = time.perf_counter() - self._began
        if not PINNED:
            return 0.0
        own_s = {VARIANT_CORE: variant_s, OTHER_CORE: others_s}
        busy_s = _busy_s()
        return max(0.0, *((busy_s[core] - self._busy_s[core] - own_s[core]) / took_s for core in own_s))


def _busy_s() -> dict[int, float]:
    times = psutil.cpu_times(percpu=True)
    return {core: sum(times[core][:8]) - times[core].idle - times[core].iowait for core in (VARIANT_CORE, OTHER_CORE)}


def pin_load() -> None:
    """Keep this process off the variants' core."""
    _pin(os.getpid(), OTHER_CORE)


def _pin(pid: int, core: int) -> None:
    if PINNED:
        os.sched_setaffinity(pid, {core})


def _kill(process: subprocess.Popen[str]) -> None:
    with process:  # closes its pipes, and waits
        process.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
