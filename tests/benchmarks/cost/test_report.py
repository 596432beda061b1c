from __future__ import annotations

from benchmarks.cost.figures import Turn
from benchmarks.cost.report import differences, doubts, figures, line
from benchmarks.cost.rounds import Cell, Measured
from benchmarks.cost.variants import BARE, Variant

CELL = Cell(32)
CONTRIB = Variant("contrib", "contrib")


def _measured(*, arrived: float = 1.0, load: float = 0.2, taken: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Measured:
    measured = Measured(arrived={"bare": {}, "contrib": {"traces": arrived, "bytes": 10}})
    for share in taken:
        for variant, rate in ((BARE, 4000.0), (CONTRIB, 1000.0)):
            measured.add(CELL, variant, Turn(1000, rate, 1.0, 2.0, 1e6 / rate, 50.0, 1.0, load, share))
    return measured


def test_line() -> None:
    """The quick form says in one line what each variant leaves of the bare one."""
    told = line(_measured().turns[CELL], CELL)
    assert told.endswith("bare 1, contrib 0.25 (0.25-0.25), p99 x1.0, CPU x4.0")
    assert "\n" not in told


def test_no_doubts() -> None:
    """Of a quiet run, in which everything arrived, there is nothing to say."""
    assert list(doubts(_measured())) == []


def test_doubts() -> None:
    """Lost telemetry, a load at its limit and a busy machine are told beside the figures."""
    assert list(doubts(_measured(arrived=0.7))) == ["contrib lost 30% of its traces on the way"]
    assert "busy for 95%" in next(doubts(_measured(load=0.95)))
    assert "1 of 4 rounds are left out" in next(doubts(_measured(taken=(0.0, 0.5, 0.0, 0.0))))
    assert "measure again" in next(doubts(_measured(taken=(0.0, 0.5, 0.5))))


def test_differences() -> None:
    """A peer that is locked to another FastAPI is said to be so; of its own packages nothing is said."""
    versions = {"own": {"python": "3.11", "fastapi": "1"}, "peer": {"python": "3.11", "fastapi": "2", "peer": "3"}}
    assert list(differences(versions, "own")) == ["peer runs with fastapi 2, the bare application with 1"]


def test_figures() -> None:
    """All turns are in the JSON, and the ratios of the quiet ones."""
    told = figures(_measured(taken=(0.0, 0.5, 0.0, 0.0)))
    (cell,) = told["cells"]
    assert (cell["concurrency"], cell["spans"]) == (32, 1)
    assert cell["variants"]["contrib"]["ratios"]["rate"] == {"median": 0.25, "low": 0.25, "high": 0.25}
    assert len(cell["variants"]["contrib"]["turns"]) == 4
