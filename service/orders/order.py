"""An order, and the states of its life."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

State = Literal["pending", "placed", "confirmed", "cancelled", "refused", "abandoned"]

NEXT: Final[dict[State, frozenset[State]]] = {
    "pending": frozenset({"placed", "refused", "abandoned"}),  # a request works on it
    "placed": frozenset({"confirmed", "cancelled"}),  # reserved and paid; shipping has the word
    "abandoned": frozenset({"cancelled"}),  # given up; what it may have taken is being given back
    "confirmed": frozenset(),
    "cancelled": frozenset(),
    "refused": frozenset(),
}
"""The states that may follow each state. None comes twice in an order's life."""


@dataclass(frozen=True, slots=True)
class Change:
    """A state, when it began (microseconds since the epoch), and why, if that does not go without saying."""

    state: State
    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order; the time is in microseconds since the epoch.

    Attributes:
        amount: What it costs, in minor units; it has one, and a currency, from the moment when it is placed.
        history: All its states so far, the present one last.
    """

    id: str
    created_at: int
    sku: str
    quantity: int
    amount: int | None
    currency: str | None
    state: State
    history: tuple[Change, ...]

    @classmethod
    def new(cls, id: str, sku: str, quantity: int, *, at: int) -> Order:  # noqa: A002 - as the field is named
        """An order that a request begins to work on."""
        return cls(id, at, sku, quantity, None, None, "pending", (Change("pending", at),))

    @property
    def was_placed(self) -> bool:
        """Whether it was placed, whatever became of it since."""
        return self.amount is not None

    def may_become(self, state: State) -> bool:
        """Whether a state may follow the present one."""
        return state in NEXT[self.state]

    def to(self, state: State, at: int, reason: str | None = None) -> Order:
        """The order in its next state.

        Raises:
            ValueError: That state does not follow the present one.
        """
        if not self.may_become(state):
            raise ValueError(f"an order that is {self.state} cannot become {state}")
        return replace(self, state=state, history=(*self.history, Change(state, at, reason)))

    def placed(self, amount: int, currency: str, at: int) -> Order:
        """The order once it is reserved and paid; the amount is in minor units."""
        return replace(self, amount=amount, currency=currency).to("placed", at)
