"""What is told of a load."""

from __future__ import annotations

from rich.console import Console

from observability.load.load import Answer, Request
from observability.load.tally import Tally


def _answer(name: str, seconds: float, status: int | None) -> Answer:
    return Answer(Request("GET", "http://edge/", name=name), 0.0, seconds, status)


def _shown(tally: Tally) -> list[list[str]]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tally.table())
    return [line.split() for line in capture.get().splitlines()]


def test_table() -> None:
    """Each kind of request has its statuses and times, and so have all; what was not answered has no time."""
    tally = Tally(["mug", "list"])
    for number in range(1, 101):
        tally.add(_answer("mug", number / 1000, 201 if number <= 90 else 503))
    tally.add(_answer("mug", 40.0, None))
    assert tally.line() == "201: 90, 503: 10, no answer: 1"
    assert tally.count() == 101
    header, mug, nothing, everything = _shown(tally)
    assert header == ["answers", "p50", "p95", "by", "status"]
    assert (mug[0], mug[1], mug[3], mug[5]) == ("mug", "101", "ms", "ms")
    assert abs(float(mug[2]) - 50) < 1.3
    assert abs(float(mug[4]) - 95) < 2.4
    assert " ".join(mug[6:]) == "201: 90, 503: 10, no answer: 1"
    assert nothing == ["list", "0", "-", "-"]
    assert everything[1:] == mug[1:]


def test_bounded() -> None:
    """However many answers there are, what is kept of them is as large as their times are far apart."""
    tally = Tally(["mug"])
    for number in range(10_000):
        tally.add(_answer("mug", number / 10_000, 201))
    assert len(tally._times["mug"]) < 400
