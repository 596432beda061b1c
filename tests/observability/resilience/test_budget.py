"""How many retries there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability.resilience.budget import MAX_SAVED, RetryBudget


def test_floor_then_ratio() -> None:
    """The floor is there at once; after it each retry needs the calls that pay for it."""
    budget = RetryBudget(0.2, 2)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(5):
        assert not budget.take()
        budget.called()
    assert [budget.take() for _ in range(2)] == [True, False]


def test_quiet_times_save_little() -> None:
    """Many calls without a retry save up no storm."""
    budget = RetryBudget(0.2, 3)
    for _ in range(10_000):
        budget.called()
    assert sum(budget.take() for _ in range(1000)) == MAX_SAVED


@given(st.lists(st.booleans(), max_size=500), st.floats(0, 1), st.integers(0, 30))
def test_never_more_than_the_share(calls: list[bool], ratio: float, floor: int) -> None:
    """Whatever the order of calls and retries: never more retries than the floor and the calls' share."""
    budget = RetryBudget(ratio, floor)
    called = taken = 0
    for is_call in calls:
        if is_call:
            budget.called()
            called += 1
        else:
            taken += budget.take()
        assert taken <= floor + ratio * called + 1e-6
