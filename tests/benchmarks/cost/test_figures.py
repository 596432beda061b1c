from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cost.figures import Spread, Turn, compare, percentile, quiet_rounds, ratios


def _turn(rate: float = 1000.0, taken: float = 0.0) -> Turn:
    return Turn(
        requests=1000, rate=rate, p50_ms=1.0, p99_ms=2.0, cpu_us=100.0, rss_mb=50.0, core=1.0, load=0.1, taken=taken
    )


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(1, 0.99, 1), (100, 0.5, 50), (100, 0.99, 99), (101, 0.99, 100), (4, 1.0, 4)]
)
def test_percentile(count: int, share: float, expected: int) -> None:
    """The percentile is one of the values, by its rank."""
    assert percentile(range(1, count + 1), share) == expected


@given(st.lists(st.integers(), min_size=1), st.floats(0.01, 1))
def test_percentile_of_anything(values: list[int], share: float) -> None:
    """At least such a share of the values is no greater than the percentile, and of those below it a smaller one."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9
    assert sum(value < found for value in ordered) < share * len(ordered) + 1e-9


def test_no_percentile_of_nothing() -> None:
    """A turn without an answer is no turn of zero milliseconds."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_ratios_of_neighbours() -> None:
    """A machine that gets slower from round to round changes nothing, since each round is compared in itself."""
    assert ratios([50.0, 25.0, 10.0], to=[100.0, 50.0, 20.0]) == Spread(0.5, 0.5, 0.5)


def test_spread() -> None:
    """Half of the values lie between the quartiles."""
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, low=2.0, high=4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    assert str(Spread(0.254, 0.2, 0.3)) == "0.25 (0.20-0.30)"
    assert str(Spread(12.34, 11, 13)) == "12.3 (11.0-13.0)"


def test_compare() -> None:
    """Each figure is told as a multiple of the bare variant's."""
    compared = compare([_turn(rate=250.0)], [_turn()])
    assert compared["rate"].median == 0.25
    assert compared["p99_ms"].median == 1.0


def test_disturbed_rounds_go_whole() -> None:
    """A round in which one variant was disturbed is left out for all of them."""
    turns = {
        "bare": [_turn(1.0), _turn(2.0), _turn(3.0), _turn(4.0)],
        "other": [_turn(1.0), _turn(2.0, taken=0.5), _turn(3.0), _turn(4.0)],
    }
    assert {name: [one.rate for one in some] for name, some in quiet_rounds(turns).items()} == {
        "bare": [1.0, 3.0, 4.0],
        "other": [1.0, 3.0, 4.0],
    }


def test_all_rounds_of_a_busy_machine() -> None:
    """Where hardly a round was quiet, all of them count: the spread shows what they are worth."""
    turns = {"bare": [_turn(taken=0.5), _turn(taken=0.5), _turn(), _turn()]}
    assert quiet_rounds(turns) == turns
