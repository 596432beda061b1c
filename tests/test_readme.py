"""What the README says, done."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi import APIRouter

from service.inventory.routes import router as inventory
from service.orders.routes import router as orders
from service.payments.routes import router as payments
from service.shipping.routes import router as shipping

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_kit_in_five_lines() -> None:
    """The lines that put the kit into a service of one's own make a request a span, a log line and a problem."""
    code = next(block for block in CODE if "serve(" in block)
    assert len([line for line in code.splitlines() if line]) == 5
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("8080", str(port))],
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        listening = process.stdout.readline()
        assert f"listening on http://127.0.0.1:{port}" in listening
        problem = httpx.get(f"http://127.0.0.1:{port}/nowhere").json()
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").json() == {"status": "pass"}
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    lines = [json.loads(one) for one in output.splitlines() if one.startswith('{"timestamp"')]
    (line,) = [line for line in lines if line["message"].startswith("GET /nowhere 404")]
    assert line["trace_id"] == problem["trace_id"]
    assert output.count(f'"trace_id": "0x{problem["trace_id"]}"') == 1


def test_test(tmp_path: Path) -> None:
    """The test that the README shows passes where the kit is installed."""
    (tmp_path / "test_greeter.py").write_text(next(block for block in CODE if "def test_" in block))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "asyncio"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_settings() -> None:
    """The README's table has every variable of the project's own that the code reads, and no other."""
    read = {
        variable
        for folder in ("observability", "service")
        for path in (ROOT / folder).rglob("*.py")
        for variable in re.findall(r"\"(CLEARSPAN_[A-Z_]+|[A-Z]+(?:_SERVICE)?_URL)\"", path.read_text())
    }
    named = set(re.findall(r"`(CLEARSPAN_[A-Z_]+|[A-Z]+(?:_SERVICE)?_URL)`", README))
    assert named == read


def test_trees() -> None:
    """The traces that the README shows are those that tests of the shop assert."""
    drawn = re.findall(r"```\n(trace 1\n.*?)\n```", README, re.DOTALL)
    asserted = (ROOT / "tests/service/test_shop.py").read_text()
    assert [tree in asserted for tree in drawn] == [True, True]


def test_pictures() -> None:
    """Each picture that the README shows is there, and small."""
    pictures = [ROOT / path for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)]
    assert len(pictures) == 6
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []


def test_containers() -> None:
    """The table of containers has each one that stays, with the memory and the port that compose.yaml gives it."""
    rows = re.findall(r"^\| ([a-z, -]+?)( \(`elk`\))? \| (\d+m)(?: each)? \| (?:(\d+) )?\|$", README, re.MULTILINE)
    told = {
        name: (memory, [port] if port else [], bool(elk))
        for names, elk, memory, port in rows
        for name in names.split(", ")
    }
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert told == {
        name: (
            one["mem_limit"],
            [port.split(":")[1] for port in one.get("ports", ())],
            "elk" in one.get("profiles", ()),
        )
        for name, one in compose.items()
        if one["restart"] != "no" and name != "load"
    }


@pytest.mark.parametrize(
    "router", [orders, inventory, payments, shipping], ids=["orders", "inventory", "payments", "shipping"]
)
def test_routes(router: APIRouter) -> None:
    """The README's table names every route of each service."""
    operations = [f"{method} {route.path}" for route in router.routes for method in route.methods]  # type: ignore[attr-defined]  # all are API routes
    assert operations
    assert [operation for operation in operations if f"`{operation}`" not in README] == []
