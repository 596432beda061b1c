"""`clearspan fault` against running services."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from observability import cli
from observability.instrument import observe
from observability.testing import Recorder
from tests.serving import serving

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of two services, on one port, so that one of them is what the test serves."""
    text = '[tool.clearspan.services]\npayments = { app = "a:b", port = 8000 }\ngone = { app = "a:b", port = 7999 }\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def _fault(port: int, *arguments: str) -> tuple[int, str]:
    """The exit code and what was written."""

    def run() -> tuple[int, str]:
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            try:
                cli.app(["fault", *arguments, "--port", str(port)])
            except SystemExit as end:
                return int(end.code or 0), written.getvalue()
        raise AssertionError("a command line ends with an exit code")

    return await anyio.to_thread.run_sync(run)


def _app(recorder: Recorder, **options: Any) -> FastAPI:
    app = FastAPI()
    observe(app, recorder.telemetry("payments"), inbound_context="continue", **options)
    return app


async def test_set_list_off(recorder: Recorder) -> None:
    """A fault is set with its options, listed with its time, and ended."""
    async with serving(_app(recorder, faults=True)) as (port, _):
        assert await _fault(port, "payments", "error", "--share", "0.3", "--route", "/payments") == (0, "")
        code, listed = await _fault(port, "payments")
        assert code == 0
        assert listed.startswith("payments: error on 0.3 of /payments for ")
        assert await _fault(port, "payments", "off") == (0, "")
        assert await _fault(port, "payments") == (0, "payments: none\n")


async def test_list_of_all(recorder: Recorder) -> None:
    """Without a service each one is listed; one that is not there is said to be so and hides no other."""
    async with serving(_app(recorder, faults=True)) as (port, _):
        code, listed = await _fault(port)
    first, second = listed.splitlines()
    assert (code, first) == (0, "payments: none")
    assert second.startswith(f"gone does not answer at http://127.0.0.1:{port - 1}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["payments", "explode"], "payments refuses: kind: Input should be 'latency', 'error'"),
        (["payments", "error", "--share", "2"], "payments refuses: share: Input should be less than or equal to 1"),
        (["nobody", "error"], "no service is named 'nobody'; pyproject.toml knows payments, gone"),
    ],
)
async def test_mistakes(recorder: Recorder, arguments: list[str], message: str) -> None:
    """A mistake ends with one line that says what is wrong, and exit code 1."""
    async with serving(_app(recorder, faults=True)) as (port, _):
        code, written = await _fault(port, *arguments)
    assert written.startswith(f"clearspan: {message}")
    assert (code, len(written.splitlines())) == (1, 1)


async def test_takes_none(recorder: Recorder) -> None:
    """Of a service that takes no faults it is said how it would."""
    async with serving(_app(recorder)) as (port, _):
        code, written = await _fault(port, "payments", "hang")
    assert code == 1
    why = "only services behind the public edge do, with CLEARSPAN_FAULTS=true"
    assert written == f"clearspan: payments takes no faults: {why}\n"


async def test_not_there(free_port: int) -> None:
    """Of a service that is not there it is said where it was looked for."""
    code, written = await _fault(free_port, "payments", "hang")
    assert code == 1
    assert written.startswith(f"clearspan: payments does not answer at http://127.0.0.1:{free_port}; is it running")


README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^clearspan fault payments (.+)$", README, re.MULTILINE))
async def test_readme(recorder: Recorder, line: str) -> None:
    """What the README shows is done by a service that takes faults."""
    async with serving(_app(recorder, faults=True)) as (port, _):
        assert await _fault(port, "payments", *shlex.split(line)) == (0, "")
