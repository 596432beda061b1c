"""Processes that are forked from one that has imported the kit: importing takes longer than what most of them do."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED = [
    "observability.cli",
    "observability.viewer.server",
    "observability.events.undelivered",
    "observability.instrument",
    "observability.server",
    # What their parts import when they are first used:
    "anyio._backends._asyncio",
    "grpc._utilities",
    "typer._adapters",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.h11_impl",
]


class Forked:
    """What `python -c code arguments` does, in less time; both outputs are read here.

    Attributes:
        pid: Its number.
    """

    def __init__(
        self,
        code: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] = os.environ,
        cwd: Path | None = None,
    ) -> None:
        out, child_out = multiprocessing.Pipe(duplex=False)
        err, child_err = multiprocessing.Pipe(duplex=False)
        told = code, list(arguments), dict(environment), cwd or Path.cwd(), (child_out, child_err)
        self._process = _context().Process(target=_run, args=told, daemon=True)  # ends with the tests
        self._process.start()
        self._out, self._err = (os.fdopen(os.dup(one.fileno())) for one in (out, err))
        for one in (out, err, child_out, child_err):
            one.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it has ended, if it has."""
        return self._process.exitcode

    def readline(self) -> str:
        """The next line that it writes; empty if it ends before that."""
        return self._out.readline()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it writes until its end, no more than a pipe holds; it has to end within `timeout` seconds."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it does not end"
        return self._out.read(), self._err.read()

    def close(self) -> None:
        """End it at once, if it has not ended, and read no more."""
        self._process.kill()
        self._process.join()
        self._out.close()
        self._err.close()


class ForkedCommand(Forked):
    """What `clearspan arguments` does."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str] = os.environ, cwd: Path | None = None
    ) -> None:
        super().__init__("from observability import cli; cli.main()", arguments, environment, cwd)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, *_IMPORTED])
    return context


def _run(
    code: str, arguments: list[str], environment: dict[str, str], cwd: Path, outputs: tuple[Connection, Connection]
) -> None:
    """What the process does."""
    for number, output in enumerate(outputs, 1):
        os.dup2(output.fileno(), number)
        output.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})  # noqa: S102 - a test's own
