"""What a variant should have sent, beside what came: a variant that sends nothing would win every comparison."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.cost.variants import Variant

WAITING = 4 * 512
"""What the SDK's queues hold; less than that may still be waiting when a turn ends."""


class NothingSentError(Exception):
    """A variant did not send what it should have: its figures would be no comparison."""


class Ledger:
    """The spans and logs of one variant, by the names of OTLP's paths."""

    def __init__(self, variant: Variant, *, calls: bool = False) -> None:
        self._variant = variant
        served, called = {"traces": variant.spans, "logs": variant.logs}, {"traces": min(variant.spans, 1), "logs": 0}
        self._of_a_request = called if calls else served
        self._expected = {signal: 0 for signal, count in self._of_a_request.items() if count}
        # What was expected and had come at the ends of the turns, of which the last two are looked at.
        self._turns = [(dict(self._expected), dict[str, int]())]

    def note(self, requests: int, spans: int, came: Mapping[str, int]) -> None:
        """Note a turn of so many requests with so many spans each, and all that has come until its end.

        Raises:
            NothingSentError: Nothing came in this turn and the one before, though it was more than can wait. Not in one
                turn alone, since some send once a second.
        """
        for signal in self._expected:
            steps = spans - 1 if signal == "traces" else 0
            self._expected[signal] += requests * (self._of_a_request[signal] + steps)
        if len(self._turns) > 1:
            expected, come = self._turns[-2]
            for signal, count in self._expected.items():
                if count - expected[signal] > WAITING and came.get(signal, 0) == come.get(signal, 0):
                    raise NothingSentError(f"{self._variant.name} served {requests} requests and sent no {signal}")
        self._turns = [self._turns[-1], (dict(self._expected), dict(came))]

    def arrived(self, came: Mapping[str, int]) -> dict[str, float]:
        """When it has ended: the share that came of what it should have sent, and the bytes.

        Raises:
            NothingSentError: A signal that it sends did not come at all.
        """
        missing = [signal for signal in self._expected if not came.get(signal)]
        if self._variant.metrics and not came.get("metrics"):
            missing.append("metrics")
        if missing:
            raise NothingSentError(f"{self._variant.name} sent no {' and no '.join(missing)}")
        shares: dict[str, float] = {signal: came[signal] / count for signal, count in self._expected.items()}
        return {**shares, "bytes": came.get("bytes", 0)} if shares else {}
