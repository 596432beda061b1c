"""Faults, and which of them a request meets."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from observability.faults.fault import Fault, Faults


class Clock:
    """A clock that stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("route", "path", "concerned"),
    [
        ("/", "/", True),
        ("/", "/payments/1", True),
        ("/payments", "/payments/1", True),
        ("/payments/{order_id}", "/payments/1", True),
        ("/payments/{order_id}", "/payments", False),
        ("/payments/{order_id}/refund", "/payments/1", False),
        ("/pay", "/payments/1", False),
    ],
)
def test_route(route: str, path: str, concerned: bool) -> None:
    """A fault concerns the paths that begin with its route's segments, of which one in braces stands for any."""
    assert Fault(kind="error", route=route).concerns(path) is concerned


def test_ends_by_itself() -> None:
    """A fault is in force for its seconds and no longer."""
    clock = Clock()
    faults = Faults(now=clock)
    fault = Fault(kind="error", seconds=30)
    faults.set(fault)
    clock.now = 29.0
    assert (faults.draw("/"), faults.in_force()) == (fault, {fault: 1.0})
    clock.now = 30.0
    assert (faults.draw("/"), faults.in_force()) == (None, {})


def test_share() -> None:
    """A request meets the first fault whose share it falls into."""
    chances = iter([0.29, 0.3, 0.0, 0.3, 0.1])
    faults = Faults(now=Clock(), chance=lambda: next(chances))
    some, rest = Fault(kind="error", share=0.3), Fault(kind="hang", share=0.1)
    faults.set(some)
    faults.set(rest)
    assert [faults.draw("/") for _ in range(3)] == [some, rest, None]


def test_one_of_a_kind() -> None:
    """A fault takes the place of one of its kind, and all end when they are told to."""
    faults = Faults(now=Clock())
    for status in (500, 503):
        faults.set(Fault(kind="error", status=status))
    faults.set(Fault(kind="latency"))
    assert [(one.kind, one.status) for one in faults.in_force()] == [("error", 503), ("latency", 503)]
    faults.clear()
    assert faults.draw("/") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "explode"),
        ("share", 0),
        ("share", 1.1),
        ("seconds", 601),
        ("seconds", "NaN"),
        ("route", "payments"),
        ("status", 200),
        ("delay_s", 61),
        ("color", "red"),
    ],
)
def test_bounds(field: str, value: Any) -> None:
    """What is beyond the bounds, or not known, is told by its name."""
    with pytest.raises(ValidationError) as caught:
        Fault.model_validate({"kind": "error", field: value})
    assert caught.value.errors()[0]["loc"] == (field,)
