"""Every rule has something to work on in the real pipeline, or `empty.py` says why it has not."""

from __future__ import annotations

import subprocess

import httpx
import pytest

from tests.queries import STACK, operands, rules
from tests.stack.answers import without_data
from tests.stack.empty import never, sometimes
from tests.stack.programs import program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def test_rules_fire_when_they_should_and_only_then() -> None:
    """What promtool makes of the rules' own tests."""
    tests = sorted((STACK / "prometheus/tests").glob("*.yaml"))
    ran = subprocess.run([program("promtool"), "test", "rules", *tests], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_rule_is_evaluated(prometheus: str) -> None:
    """Prometheus has loaded every rule of ours."""
    answer = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).raise_for_status().json()
    loaded = {rule["name"] for group in answer["data"]["groups"] for rule in group["rules"]}
    assert loaded == {rule.name for rule in rules()}


def test_no_rule_fails(prometheus: str) -> None:
    """Each could be evaluated."""
    answer = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).raise_for_status().json()
    assert {
        rule["name"]: rule.get("lastError")
        for group in answer["data"]["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    } == {}


def test_every_recorded_series_has_data(prometheus: str) -> None:
    """Each returns data, or it is known why it does not."""
    expressions = {rule.expression for rule in rules() if not rule.is_alert}
    assert without_data(prometheus, {one for one in expressions if not never(one) and not sometimes(one)}) == set()
    expected = {one for one in expressions if never(one)}
    assert without_data(prometheus, expected, expected=expected) == expected


def test_every_alert_could_fire(prometheus: str) -> None:
    """Whatever an alert compares has data: its silence means that all is well."""
    compared = {operand for rule in rules() if rule.is_alert for operand in operands(rule.expression)}
    assert without_data(prometheus, {one for one in compared if not never(one) and not sometimes(one)}) == set()
