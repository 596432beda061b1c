"""The states of an order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.orders.order import NEXT, Change, Order, State

FINAL = {"confirmed", "cancelled", "refused"}


@given(st.lists(st.sampled_from(sorted(NEXT)), max_size=30))
def test_any_life(wanted: list[State]) -> None:
    """Whatever states are asked for in whatever order, each comes once, in order, and nothing follows a final one."""
    order = Order.new("order-1", "mug", 2, at=0)
    for at, state in enumerate(wanted, 1):
        if order.may_become(state):
            before = order
            order = order.to(state, at)
            assert order.history == (*before.history, Change(state, at))
        else:
            with pytest.raises(ValueError, match=f"is {order.state} cannot become {state}"):
                order.to(state, at)
    states = [change.state for change in order.history]
    assert (states[0], states[-1]) == ("pending", order.state)
    assert len(set(states)) == len(states)
    assert not FINAL & set(states[:-1])


def test_placed() -> None:
    """An order has an amount from the moment when it is placed, and keeps it."""
    order = Order.new("order-1", "mug", 2, at=0)
    assert (order.amount, order.was_placed) == (None, False)
    placed = order.placed(2500, "EUR", 1)
    assert (placed.state, placed.amount, placed.currency, placed.was_placed) == ("placed", 2500, "EUR", True)
    assert placed.to("cancelled", 2, "no carrier").was_placed
