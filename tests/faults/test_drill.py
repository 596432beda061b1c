"""The drills in their short form: real processes, real faults, and everything that is asked for holds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drills.drill import SHORT, drill
from drills.scenarios import SCENARIOS

pytestmark = pytest.mark.anyio

logger = logging.getLogger(__name__)


@pytest.mark.timeout(120)  # starts four processes, one of them twice
async def test_drill(tmp_path: Path) -> None:
    """With payments failing, then hanging, then inventory killed, every answer is in time and the shop recovers."""
    names = ["payments: 30 % errors", "payments hanging", "inventory killed"]
    scenarios = [one for one in SCENARIOS if one.name in names]
    assert len(scenarios) == len(names)
    outcomes = await drill(scenarios, SHORT, tmp_path, logger.info)
    assert [f"{one.name}: {failure}" for one in outcomes for failure in one.failures()] == []
    failing, hanging, killed = outcomes
    assert "clearspan.fault=error" in failing.trace
    assert failing.statuses()["2xx"] > len(failing.answers) * 0.7  # more than without retries
    assert "clearspan.fault=hang" in hanging.trace
    assert sum(hanging.statuses()[kind] for kind in ("503", "504")) > 0
    assert sum(killed.statuses()[kind] for kind in ("502", "503")) > 0
