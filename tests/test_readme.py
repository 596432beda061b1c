"""What the README says, done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import APIRouter

from service.inventory.routes import router as inventory
from service.orders.routes import router as orders
from service.payments.routes import router as payments

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_kit_in_five_lines() -> None:
    """The lines that put the kit into a service of one's own make a request a span, a log line and a problem."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 5
    ask = """
import asyncio
from observability.testing import client_for, running
async def ask():
    async with running(app), client_for(app) as client:
        print((await client.get("/livez")).json())
        print((await client.get("/nowhere")).json()["trace_id"])
asyncio.run(ask())
"""
    told = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    result = subprocess.run(
        [sys.executable, "-c", code + ask],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "{'status': 'pass'}" in result.stdout
    (line,) = [json.loads(one) for one in result.stdout.splitlines() if one.startswith('{"timestamp"')]
    assert line["message"].startswith("GET /nowhere 404")
    assert result.stdout.count(f'"trace_id": "0x{line["trace_id"]}"') == 1
    assert f"\n{line['trace_id']}\n" in result.stdout


def test_tree() -> None:
    """The trace that the README shows is the one that a test of the shop asserts."""
    (drawn,) = re.findall(r"```\n(trace 1\n.*?)\n```", README, re.DOTALL)
    assert drawn in (ROOT / "tests/service/test_shop.py").read_text()


@pytest.mark.parametrize("router", [orders, inventory, payments], ids=["orders", "inventory", "payments"])
def test_routes(router: APIRouter) -> None:
    """The README's table names every route of each service."""
    operations = [f"{method} {route.path}" for route in router.routes for method in route.methods]  # type: ignore[attr-defined]  # all are API routes
    assert operations
    assert [operation for operation in operations if f"`{operation}`" not in README] == []
