"""What the chain itself raises. All are httpx's own kinds, so that whoever catches those catches these.

httpx.TransportError
├── Refused               the attempt never left this process
│   ├── BulkheadFull      as many calls as may be are under way
│   ├── BreakerOpen       the dependency has failed too often of late
│   └── DeadlineSpent     no time is left to ask
├── AnswerTooLarge        the dependency answers with more than is read
└── httpx.TimeoutException
    ├── AttemptTimedOut   one attempt took too long
    └── DeadlineExceeded  all attempts together, and the waits between them, took too long
"""

from __future__ import annotations

import httpx


class Refused(httpx.TransportError):
    """The attempt never left this process; earlier attempts of the call may have (`was_sent`)."""


class BulkheadFull(Refused):
    """As many calls to the dependency as may be are under way, and no place became free in time."""


class BreakerOpen(Refused):
    """The dependency has failed too often of late.

    Args:
        retry_after_s: When it will be asked again, in seconds from now.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineSpent(Refused):
    """No time is left to ask."""


class AnswerTooLarge(httpx.TransportError):
    """The dependency answers with more than is read."""


class AttemptTimedOut(httpx.TimeoutException):
    """One attempt took too long; whether the dependency has done it is not known."""


class DeadlineExceeded(httpx.TimeoutException):
    """The attempts and the waits between them took too long."""
