"""Garbage collection while a process serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from observability.garbage import YOUNG_OBJECTS, rare_collections


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """What a test sets is undone; nothing is frozen before it, as Python 3.12 has some objects from its start."""
    before = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_is_there_is_left_alone() -> None:
    """What was there before is not looked through, what comes later is, and at the end all is as it was."""
    gc.set_threshold(700, 11, 12)
    with rare_collections():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == YOUNG_OBJECTS
        later: list[object] = []
        later.append(later)
        assert any(one is later for one in gc.get_objects())
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold()[:2] == (700, 11)


@pytest.mark.parametrize("young", [0, 2 * YOUNG_OBJECTS])
def test_own_threshold(young: int) -> None:
    """A collector that is off, or that runs more seldom still, is left so."""
    gc.set_threshold(young)
    with rare_collections():
        assert gc.get_threshold()[0] == young


def test_frozen_before() -> None:
    """What the application has frozen itself stays so."""
    gc.freeze()
    with rare_collections():
        pass
    assert gc.get_freeze_count() > 0
