"""When a failing store is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability.cache.pause import FAILURES, PAUSE_S, Pause
from tests.observability.cache.fakes import Clock


def _paused(clock: Clock) -> Pause:
    pause = Pause(clock)
    for _ in range(FAILURES):
        assert pause.may_ask()
        pause.failed()
    return pause


def test_pause() -> None:
    """After failures in a row nothing is asked for a while, then by one call at a time until it answers."""
    clock = Clock()
    pause = _paused(clock)
    clock.now += PAUSE_S * 0.99
    assert not pause.may_ask()
    clock.now += PAUSE_S * 0.02
    assert [pause.may_ask(), pause.may_ask()] == [True, False]
    pause.failed()
    assert not pause.may_ask()
    clock.now += PAUSE_S
    assert pause.may_ask()
    pause.answered()
    assert [pause.may_ask(), pause.may_ask()] == [True, True]


def test_in_a_row() -> None:
    """An answer between failures means that the store is there."""
    pause = Pause(Clock())
    for _ in range(FAILURES * 2):
        assert pause.may_ask()
        pause.failed()
        assert pause.may_ask()
        pause.answered()


def test_cancelled_probe() -> None:
    """A call that is cancelled before anything is known gives its place to the next one."""
    clock = Clock()
    pause = _paused(clock)
    clock.now += PAUSE_S
    assert pause.may_ask()
    pause.undecided()
    assert pause.may_ask()


@given(st.lists(st.sampled_from(["answered", "failed", "undecided", "wait"]), max_size=50))
def test_never_stuck(reports: list[str]) -> None:
    """Whatever was reported, one pause later somebody may ask, and after an answer everybody."""
    clock = Clock()
    pause = Pause(clock)
    for report in reports:
        if report == "wait":
            clock.now += PAUSE_S
        elif pause.may_ask():
            getattr(pause, report)()
    clock.now += PAUSE_S
    assert pause.may_ask()
    pause.answered()
    assert pause.may_ask()
    assert pause.may_ask()
