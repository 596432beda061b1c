"""What the drill with two replicas asks for fails where it does not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from drills.replicas import ReplicasOutcome

GOOD = ReplicasOutcome(
    name="two replicas",
    committed={"order-1": 3, "order-2": 1, "order-3": 0},
    applied={"order-1": [1, 2, 3], "order-2": [1]},
    delivered={"order-1": [1, 2, 3], "order-2": [1]},
    sent={"orders-1": 3, "orders-2": 2},
    kills=Counter({"orders-1": 1}),
    again=1,
    duplicates=1.0,
    dead=0,
    settled_s=10.0,
)


def test_good() -> None:
    """Where all is well nothing is told; a consumer of the stream may apply events in another order than its own."""
    assert list(GOOD.failures()) == []
    assert list(replace(GOOD, applied={"order-1": [2, 1, 3], "order-2": [1]}).failures()) == []


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (replace(GOOD, settled_s=None), "not settled within 40 s"),
        (
            replace(GOOD, applied={"order-1": [1, 3], "order-2": [1]}),
            "1 events were not applied, such as number 2 of order-1",
        ),
        (replace(GOOD, applied={"order-1": [1, 2, 3]}), "1 events were not applied, such as number 1 of order-2"),
        (
            replace(GOOD, applied={"order-1": [1, 2, 3, 2], "order-2": [1]}),
            "1 events were applied twice, such as number 2 of order-1",
        ),
        (
            replace(GOOD, applied={"order-1": [1, 2, 3], "order-2": [1, 2]}),
            "1 events were never committed, such as number 2 of order-2",
        ),
        (
            replace(GOOD, delivered={"order-1": [2, 1, 3], "order-2": [1]}),
            "the events of 1 subjects were not delivered in their order, such as those of order-1",
        ),
        (replace(GOOD, sent={"orders-1": 9, "orders-2": 1}), "orders-2 has sent 1 events of 10"),
        (replace(GOOD, dead=1), "1 events are dead"),
        (replace(GOOD, again=0), "no event was sent twice, so that nothing was shown"),
    ],
)
def test_bad(outcome: ReplicasOutcome, failure: str) -> None:
    """Each thing that does not hold is told by an example."""
    assert list(outcome.failures()) == [failure]
