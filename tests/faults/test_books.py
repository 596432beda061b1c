"""Books that do not fit are found out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drills.books import Books, OrderEntry

GOOD = Books(
    orders={
        "1": OrderEntry("mug", "confirmed", "a" * 32, 0, 1),
        "2": OrderEntry("anvil", "cancelled", "b" * 32, 0, 1),
        "3": OrderEntry("mug", "refused", "c" * 32, 0, 1),
    },
    reserved={"1": ("mug", 2)},
    paid=frozenset({"1"}),
    shipped=frozenset({"1"}),
    missing={"mug": 2, "anvil": 0},
    unsent={"orders": 0, "shipping": 0},
)
ACCEPTED = frozenset({"1", "2"})


def _in_state(state: str) -> Books:
    return replace(GOOD, orders={**GOOD.orders, "2": replace(GOOD.orders["2"], state=state)})


def test_good() -> None:
    """Books that fit are settled, and nothing is told of them."""
    assert GOOD.settled
    assert list(GOOD.errors(ACCEPTED)) == []


@pytest.mark.parametrize(
    ("books", "error"),
    [
        (
            replace(GOOD, orders={key: one for key, one in GOOD.orders.items() if key != "2"}),
            "1 accepted orders are lost",
        ),
        (_in_state("placed"), "1 orders are in no final state, such as 2"),
        (_in_state("abandoned"), "1 orders are in no final state, such as 2"),
        (_in_state("refused"), "1 accepted orders were refused"),
        (
            replace(GOOD, orders={**GOOD.orders, "2": replace(GOOD.orders["2"], sku="mug")}),
            "1 accepted orders were cancelled though they can be shipped, such as 2",
        ),
        (replace(GOOD, paid=frozenset({"1", "2"})), "0 confirmed orders are not paid, 1 others are"),
        (replace(GOOD, paid=frozenset()), "1 confirmed orders are not paid, 0 others are"),
        (replace(GOOD, shipped=frozenset()), "1 confirmed orders are not shipped, 0 others are"),
        (replace(GOOD, shipped=frozenset({"1", "3"})), "0 confirmed orders are not shipped, 1 others are"),
        (
            replace(GOOD, reserved={"1": ("mug", 1), "2": ("mug", 1)}),
            "0 confirmed orders are not reserved, 1 others are",
        ),
        (
            replace(GOOD, missing={"mug": 3, "anvil": 0}),
            "goods are set aside: {'mug': 2}; gone from the shelf: {'mug': 3}",
        ),
        (
            replace(GOOD, missing={"mug": 2, "anvil": 1}),
            "goods are set aside: {'mug': 2}; gone from the shelf: {'mug': 2, 'anvil': 1}",
        ),
        (replace(GOOD, unsent={"orders": 0, "shipping": 1}), "1 events of shipping were not delivered"),
    ],
)
def test_bad(books: Books, error: str) -> None:
    """Each thing that does not fit is told, and nothing else."""
    assert list(books.errors(ACCEPTED)) == [error]


@pytest.mark.parametrize("books", [_in_state("pending"), replace(GOOD, unsent={"orders": 1, "shipping": 0})])
def test_under_way(books: Books) -> None:
    """While an order is in no final state, or an event waits, the books are not settled."""
    assert not books.settled
