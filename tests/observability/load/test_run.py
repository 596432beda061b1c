"""`clearspan load` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

PYPROJECT = """
[tool.clearspan.load]
look = { weight = 1, path = "/look" }
"""

COMMAND = """
import socket, time
from observability import cli
from observability.load import run
run.TELL_S = 0.1
"""


class _Edge(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/look" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


@contextmanager
def _edge() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Edge) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _load(folder: Path, *arguments: str, before: str = "") -> subprocess.Popen[str]:
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return subprocess.Popen(
        [sys.executable, "-c", f"{COMMAND}{before}\ncli.main()", "load", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()[-4:]]


def test_for_a_time(tmp_path: Path) -> None:
    """It ends after the time that is given, with a table of what came of the requests."""
    with _edge() as url:
        process = _load(tmp_path, url, "--rate", "100", "--seconds", "0.5")
        output, _ = process.communicate(timeout=30)
    header, look, everything, last = _table(output)
    assert header[0] == "answers"
    assert (look[0], look[-2]) == ("look", "200:")
    assert everything[1:] == look[1:]
    assert last == [look[1], "sent,", "0", "in", "flight"]
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """Without a time it goes on, telling how far it is, until a signal ends it cleanly, table and all."""
    with _edge() as url:
        process = _load(tmp_path, url, "--rate", "100")
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if "; 200: " in line:
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert all(" sent, " in line for line in told)
    assert _table(output)[1][0] == "look"
    assert process.returncode == 0


def test_name_that_nobody_knows(tmp_path: Path) -> None:
    """An edge whose name is looked up for ever, as that of a container that is gone, holds up no end."""
    hanging = "socket.getaddrinfo = lambda *_, **__: time.sleep(600); run.PATIENCE_S = 0.1"
    process = _load(tmp_path, "http://edge", "--rate", "100", "--seconds", "0.2", before=hanging)
    output, _ = process.communicate(timeout=30)
    assert _table(output)[1] == ["look", "0", "-", "-"]
    assert " 0 sent" not in output
    assert process.returncode == 0
