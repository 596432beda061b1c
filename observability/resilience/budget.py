"""How many retries a dependency gets: a share of its calls, so that no storm of retries finishes off what fails."""

from __future__ import annotations

MAX_SAVED = 20.0
"""Retries that quiet times save up at most."""


class RetryBudget:
    """A bucket of tokens: each call puts a share of one in, each retry takes one out.

    So of any number of calls, at most `floor + ratio * calls` are followed by a retry. As in Finagle's RetryBudget and
    gRPC's retryThrottling, https://grpc.io/docs/guides/retry/#retry-throttling.

    Args:
        ratio: Retries for each call, such as 0.2.
        floor: Retries that there are at the start, for a dependency that is seldom called.
    """

    def __init__(self, ratio: float, floor: int) -> None:
        self._ratio = ratio
        self._tokens = float(floor)
        self._most = max(MAX_SAVED, float(floor))

    def called(self) -> None:
        """Count a call."""
        self._tokens = min(self._most, self._tokens + self._ratio)

    def take(self) -> bool:
        """Take a retry, if there is one."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
