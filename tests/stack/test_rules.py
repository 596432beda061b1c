"""The alerts fire when they should."""

from __future__ import annotations

import subprocess

import pytest

from tests.queries import STACK
from tests.stack.programs import program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def test_rules_fire_when_they_should_and_only_then() -> None:
    """What promtool makes of the rules' own tests."""
    tests = sorted((STACK / "prometheus/tests").glob("*.yaml"))
    ran = subprocess.run([program("promtool"), "test", "rules", *tests], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
