"""Starting everything, and stopping it in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from observability.launcher import (
    LauncherError,
    Service,
    development_environment,
    load_factory,
    own_environment,
    read_services,
)
from tests.ports import free_base_port

APP = """
import asyncio
from fastapi import FastAPI
from observability import Telemetry, observe

def create_app():
    app = FastAPI()

    @app.get("/slow")
    async def slow():
        print("in flight", flush=True)
        await asyncio.sleep(3)
        return "done"

    observe(app, Telemetry.from_environment("x"))
    return app

def broken():
    raise RuntimeError("no database here")
"""


def _up(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "observability.cli", "up", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _project(folder: Path, factory: str = "create_app") -> int:
    """A project of one service whose ports are free; the base port to give."""
    (folder / "shop.py").write_text(APP)
    (folder / "pyproject.toml").write_text(
        f'[tool.clearspan.services]\nfirst = {{ app = "shop:{factory}", port = 8000 }}\n'
    )
    return free_base_port()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up(tmp_path: Path, number: signal.Signals) -> None:
    """Everything starts, a table says where it is, then logs have their service's name, and a signal stops it."""
    base = _project(tmp_path)
    process = _up(tmp_path, "--port", str(base))
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "listening on" in line:
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    assert lines[0].split() == ["first", f"http://127.0.0.1:{base}"]
    assert lines[1].split() == ["traces", f"http://127.0.0.1:{base - 8000 + 16686}"]
    assert f"curl http://127.0.0.1:{base}/orders" in "".join(lines)
    assert lines[-1].startswith("first │ {")
    assert "stopping" in rest
    assert process.returncode == 0


def test_request_in_flight(tmp_path: Path) -> None:
    """A request in flight is answered before its service is stopped, though other children wait for their turn."""
    base = _project(tmp_path)
    process = _up(tmp_path, "--port", str(base))
    assert process.stdout is not None
    for line in process.stdout:
        if "curl" in line:
            client = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:{base}/slow').read())",
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
        if "in flight" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    answer, _ = client.communicate(timeout=20)
    assert answer.strip() == "b'\"done\"'"
    assert "was killed" not in rest
    assert process.returncode == 0


def test_faults_behind_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where faults are asked for, all services but the first take them: that one stands at the public edge."""
    monkeypatch.setenv("CLEARSPAN_FAULTS", "true")
    shared = development_environment({}, "http://127.0.0.1:1", Path("data"), pretty=False)
    edge, inner = ({**shared, **own_environment(Service("s", "a:b", 1), edge=edge)} for edge in (True, False))
    assert (edge["CLEARSPAN_FAULTS"], inner["CLEARSPAN_FAULTS"]) == ("false", "true")
    assert edge["OTEL_SERVICE_NAME"] == inner["OTEL_SERVICE_NAME"] == "s"


def test_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry for the viewer does not go to a proxy, whatever the environment says of others."""
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)
    environment = development_environment({}, "http://127.0.0.1:4318", Path("data"), pretty=False)
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert environment["no_proxy"] == "127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "100", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example", "false"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example/v1/traces", "false"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://collector.example/v1/logs", "false"),
        ("CLEARSPAN_UNFINISHED_SPANS", "false", "false"),
    ],
)
def test_who_is_told_of_unfinished_spans(variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's own viewer is told of unfinished spans, and no other receiver."""
    for kind in ("", "TRACES_", "LOGS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT", raising=False)
    monkeypatch.delenv("CLEARSPAN_UNFINISHED_SPANS", raising=False)
    monkeypatch.setenv(variable, value)
    environment = development_environment({}, "http://127.0.0.1:4318", Path("data"), pretty=False)
    assert environment["CLEARSPAN_UNFINISHED_SPANS"] == told


def test_viewer_killed(tmp_path: Path) -> None:
    """Without the viewer the services go on, and stop by themselves though their telemetry finds nobody."""
    base = _project(tmp_path)
    process = _up(tmp_path, "--port", str(base))
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if "curl" in line:
            (viewer,) = (child for child in psutil.Process(process.pid).children() if "viewer" in child.cmdline())
            viewer.kill()
        if "viewer ended with exit code -9" in line:
            break
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"http://127.0.0.1:{base}/nothing-here", timeout=5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert "was killed" not in rest
    assert process.returncode == 1


def test_service_that_does_not_start(tmp_path: Path) -> None:
    """A service that dies at its start is reported with its last lines, and everything else is stopped."""
    base = _project(tmp_path, "broken")
    output, _ = (process := _up(tmp_path, "--port", str(base))).communicate(timeout=30)
    assert "first ended with exit code 1" in output
    assert "no database here" in output
    assert "clearspan: first did not start" in output
    assert process.returncode == 1


@pytest.mark.parametrize("port", [8000, 16686, 4318, 4317], ids=["service", "pages", "http", "grpc"])
def test_taken_port(tmp_path: Path, port: int) -> None:
    """A taken port, of those that move along too, ends with one line that names it and the way to choose another."""
    base = _project(tmp_path)
    moved = port - 8000 + base
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", moved))
        taken.listen()
        output, _ = (process := _up(tmp_path, "--port", str(base))).communicate(timeout=20)
    assert output.startswith(f"clearspan: port {moved} is taken")
    assert "--port" in output
    assert (len(output.splitlines()), process.returncode) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no"),
        ("[", "cannot be read"),
        ("", "has no services"),
        ("[tool.clearspan.services]\na = 1", "service a must look like"),
        ('[tool.clearspan.services]\na = { app = "x:y", port = "1" }', "service a must look like"),
    ],
)
def test_bad_pyproject(tmp_path: Path, text: str | None, message: str) -> None:
    """What is wrong with the table of services is told in one line."""
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LauncherError, match=message):
        read_services(path)


def test_unknown_factory() -> None:
    """A factory that is not there is named."""
    with pytest.raises(LauncherError, match="service a: nowhere:app cannot be loaded"):
        load_factory(Service("a", "nowhere:app", 1))
