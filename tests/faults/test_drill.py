"""The drills in their short form: real processes, real faults, and everything that is asked for holds."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from drills import crashes, replicas
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


@pytest.mark.timeout(120)  # waits for the lease of an order whose request was killed
async def test_crashes(tmp_path: Path) -> None:
    """With each service killed while orders come in, each order that was accepted ends once, and the books fit."""
    (short,) = crashes.SHORT
    outcome = await crashes.crash(short, tmp_path, logger.info)
    assert list(outcome.failures()) == []
    assert outcome.kills == Counter(short.killed)
    assert outcome.accepted


@pytest.mark.timeout(120)  # waits for the lease of the events that a killed replica had claimed
async def test_replicas(tmp_path: Path) -> None:
    """Of two replicas with one outbox, one killed, each event is applied once and in order, though some come twice."""
    (short,) = replicas.SHORT
    outcome = await replicas.replicate(short, tmp_path, logger.info)
    assert list(outcome.failures()) == []
    assert sum(outcome.committed.values()) > short.rate * short.seconds / 2  # there was a load
    assert outcome.duplicates >= outcome.again
