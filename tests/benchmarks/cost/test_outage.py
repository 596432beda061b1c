"""An outage of the receiver under load."""

from __future__ import annotations

from benchmarks.cost.outage import outage
from benchmarks.cost.rounds import Cell
from benchmarks.cost.variants import VARIANTS


def test_outage() -> None:
    """Every span and log record that was made has arrived once the receiver is back, or is counted as lost."""
    lines: list[str] = []
    chosen = [variant for variant in VARIANTS if variant.name == "clearspan"]
    found = outage(chosen, Cell(2, spans=3), 0.9, lines.append)["clearspan"]
    assert found["lost"] == {}
    assert found["arrived"]["traces"] == found["made"]["traces"] > 0
    assert found["arrived"]["logs"] >= found["made"]["logs"]  # those of the start and the end too
    assert found["arrived"]["metrics"] > 0
    assert list(found["memory_mb"]) == ["there", "gone", "back"]
    assert len(lines) == 6
