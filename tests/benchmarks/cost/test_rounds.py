from __future__ import annotations

from benchmarks.cost.rounds import Cell, call_rounds, serve_rounds
from benchmarks.cost.variants import QUICK, VARIANTS

CHOSEN = [variant for variant in VARIANTS if variant.name in QUICK]


def test_serving() -> None:
    """Each variant of the quick form answers rightly, has its turn, and sends all that it should."""
    cell = Cell(2, spans=3)
    measured = serve_rounds(CHOSEN, [cell], 1, 0.05, tries=1)
    assert {name: len(turns) for name, turns in measured.turns[cell].items()} == dict.fromkeys(QUICK, 1)
    assert measured.arrived["bare"] == {}
    assert {measured.arrived[name]["traces"] for name in ("contrib", "clearspan")} == {1.0}
    assert min(measured.arrived[name]["logs"] for name in ("contrib", "clearspan")) >= 1  # those of the start too


def test_calling() -> None:
    """Each client is told right answers, and sends a span for each call."""
    cell = Cell(3)
    measured = call_rounds(CHOSEN, [cell], 1, 0.05, tries=1)
    assert {name: len(turns) for name, turns in measured.turns[cell].items()} == dict.fromkeys(QUICK, 1)
    assert {measured.arrived[name]["traces"] for name in ("contrib", "clearspan")} == {1.0}
