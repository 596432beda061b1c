"""The `clearspan` command."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from observability import Telemetry
from observability.database import create_engine
from observability.events.event import Event
from observability.events.outbox import Outbox, outbox_table
from tests.forked import ForkedCommand

PYPROJECT = """
[tool.clearspan.services]
first = { app = "nowhere:app", port = 8000 }
second = { app = "second:create_app", port = 8001 }
"""

SECOND = """
from pathlib import Path
from pydantic import Field
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    mugs: int = Field(validation_alias="MUGS")

def create_app():
    Path(f"/proc/{Settings().mugs}").mkdir()
"""


def _clearspan(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "observability.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _forked(*arguments: str, cwd: Path, **environment: str) -> tuple[int | None, str, str]:
    """The exit code and both outputs of the command."""
    with closing(ForkedCommand(arguments, os.environ | environment, cwd)) as process:
        written = process.communicate(timeout=30)
        return process.returncode, *written


def test_version() -> None:
    """It says which version is installed."""
    assert _clearspan("--version").stdout.strip() == version("clearspan")


def test_help() -> None:
    """Without a word it tells what it can do."""
    result = _clearspan()
    assert [word for word in ("up", "serve", "viewer") if word not in result.stdout] == []


def test_help_waits_for_no_subsystem() -> None:
    """Help imports neither the SDK nor FastAPI nor SQLAlchemy."""
    code = """
import sys
from observability.cli import app
try:
    app(["--help"])
except SystemExit:
    print(sorted({name.split(".")[0] for name in sys.modules} & {"fastapi", "opentelemetry", "sqlalchemy", "uvicorn"}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["serve", "nobody"], {}, "no service is named 'nobody'; pyproject.toml knows first, second"),
        (["serve", "first"], {}, "service first: nowhere:app cannot be loaded"),
        (["serve", "second"], {"MUGS": "many"}, "MUGS: Input should be a valid integer"),
        (["serve", "second"], {}, "MUGS: Field required"),
        (["serve", "second"], {"MUGS": "0"}, "service second cannot start: [Errno"),
        (["load"], {}, "pyproject.toml has no requests: name them in [tool.clearspan.load]"),
        (["load", "localhost:8000"], {}, "'localhost:8000' is not a URL; write one like http://127.0.0.1:8000"),
        (["up", "--port", "70000"], {}, "port 70000 does not exist; choose a --port nearer to 8000"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str) -> None:
    """A mistake ends with one line that says what to do, and exit code 1."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "second.py").write_text(SECOND)
    code, out, err = _forked(*arguments, cwd=tmp_path, **environment)
    assert err.startswith(f"clearspan: {message}")
    assert (len(err.splitlines()), out, code) == (1, "", 1)


def test_stopped_while_it_starts() -> None:
    """A SIGTERM that comes before there is a server ends the command cleanly, as process 1 too."""
    code = """
import os, signal, sys
from observability import cli
cli.app = lambda: os.kill(os.getpid(), signal.SIGTERM)
cli.main()
sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["serve", "third"], ["events"]])
def test_unreadable_secret(tmp_path: Path, arguments: list[str]) -> None:
    """A secret that cannot be read is named in one line; here Docker made a folder, since the file was missing."""
    code = """
import sys
from pathlib import Path
from observability import cli, secret_files
secret_files.SECRETS_DIR = Path("secrets")
cli.main()
"""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.clearspan.services]\nthird = { app = "service.orders.app:create_app", port = 8000 }\n'
    )
    (tmp_path / "secrets" / "DATABASE_URL").mkdir(parents=True)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stderr == "clearspan: the secret secrets/DATABASE_URL cannot be read: Is a directory\n"
    assert (result.stdout, result.returncode) == ("", 1)


def test_outside_a_project(tmp_path: Path) -> None:
    """Where there is no pyproject.toml, that is said."""
    result = _clearspan("up", cwd=tmp_path)
    assert result.stderr == "clearspan: there is no pyproject.toml here: run this in the project's folder\n"


def test_viewer_on_taken_port(tmp_path: Path) -> None:
    """The viewer names the port that is taken and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = _clearspan("viewer", "--port", str(port), "--otlp-port", "1", "--data-dir", str(tmp_path))
    assert result.stderr.startswith(f"clearspan: port {port} is taken")
    assert (len(result.stderr.splitlines()), result.returncode) == (1, 1)


def _events(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return _forked("events", "--data-dir", str(folder), *arguments, cwd=folder, DATABASE_URL="", BROKER_URL="")


async def _refused_event(folder: Path) -> str:
    """An event of the first service, refused once and dead."""
    engine = create_engine(f"sqlite+aiosqlite:///{folder / 'first.db'}")
    outbox = Outbox(engine, "first", Telemetry.build("first"))
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("first").create)
        event = await outbox.add(connection, Event("order.placed", "/first", "order-1", b"{}"))
    (claimed,) = await outbox.claim("relay", 1, lease_s=30)
    await outbox.refused("relay", claimed, "shipping answered 422", again_in_s=None)
    await engine.dispose()
    return event.id


def test_events(tmp_path: Path) -> None:
    """It lists a dead event with its reason, lets it be tried again, and deletes it."""
    event_id = asyncio.run(_refused_event(tmp_path))
    _, listed, _ = _events(tmp_path)
    assert "shipping answered 422" in listed
    assert "first: 0 wait, 1 dead" in listed
    assert _events(tmp_path, "retry", "--all") == (0, "1 to be tried again\n", "")
    assert "first: 1 wait, 0 dead" in _events(tmp_path)[1]
    assert _events(tmp_path, "discard", event_id) == (0, "deleted\n", "")
    assert "first: 0 wait, 0 dead" in _events(tmp_path)[1]


def test_no_such_event(tmp_path: Path) -> None:
    """What is not there, or not said, is told in one line and with exit code 1."""
    assert "no service has an outbox here" in _events(tmp_path)[2]
    asyncio.run(_refused_event(tmp_path))
    for arguments, reason in (
        (["retry", "canary"], "no refused or dead event has this id"),
        (["retry"], "name an event, or say --all"),
        (["discard", "canary"], "no event that waits or is dead has this id"),
    ):
        assert _events(tmp_path, *arguments) == (1, "", f"clearspan: {reason}\n")
