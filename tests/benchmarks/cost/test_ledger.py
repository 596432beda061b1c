from __future__ import annotations

import pytest

from benchmarks.cost.ledger import WAITING, Ledger, NothingSentError
from benchmarks.cost.variants import Variant

OBSERVED = Variant("observed", "observed", spans=3, logs=1)


def test_share_that_arrived() -> None:
    """What was expected follows from the requests, their spans and their steps."""
    ledger = Ledger(OBSERVED)
    ledger.note(10, 1, {})
    ledger.note(10, 5, {"traces": 30, "logs": 10})
    assert ledger.arrived({"traces": 75, "logs": 20, "metrics": 3, "bytes": 999}) == {
        "traces": 0.75,
        "logs": 1.0,
        "bytes": 999,
    }


def test_calls() -> None:
    """A call is one span and logs nothing, whatever a request of the same variant is."""
    ledger = Ledger(OBSERVED, calls=True)
    ledger.note(10, 1, {"traces": 10})
    assert ledger.arrived({"traces": 10, "metrics": 1}) == {"traces": 1.0, "bytes": 0}


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_nothing_in_two_turns(signal: str) -> None:
    """A variant that sends nothing of a signal for two turns is no part of the comparison."""
    ledger = Ledger(OBSERVED)
    came = {"traces": 5000, "logs": 5000}
    ledger.note(WAITING, 1, came)
    ledger.note(WAITING, 1, came)
    with pytest.raises(NothingSentError, match=f"sent no {signal}"):
        ledger.note(WAITING, 1, {name: count + (name != signal) for name, count in came.items()})


def test_few_may_wait() -> None:
    """What a queue holds may still come."""
    ledger = Ledger(OBSERVED)
    for _ in range(3):
        ledger.note(WAITING // 6, 1, {})


@pytest.mark.parametrize("missing", ["traces", "logs", "metrics"])
def test_missing_signal(missing: str) -> None:
    """A signal that never came spoils the run in the end, also where it is too little for a turn to tell."""
    ledger = Ledger(OBSERVED)
    ledger.note(10, 1, {})
    came = {"traces": 30, "logs": 10, "metrics": 3}
    with pytest.raises(NothingSentError, match=f"sent no {missing}"):
        ledger.arrived({name: count for name, count in came.items() if name != missing})


def test_bare() -> None:
    """Of a variant without telemetry nothing is expected."""
    ledger = Ledger(Variant("bare", "bare", spans=0, logs=0, metrics=False))
    for _ in range(3):
        ledger.note(WAITING, 20, {})
    assert ledger.arrived({}) == {}
