"""Why telemetry is not taken. The message of each is for its sender; each protocol has its own codes for them."""

from __future__ import annotations


class RefusedError(Exception):
    """Telemetry that is not taken."""


class BrokenError(RefusedError):
    """It cannot be read, and could not be the next time either."""


class TooLargeError(RefusedError):
    """It has more bytes than may be, or would when inflated."""


class TooSlowError(RefusedError):
    """It did not arrive in time."""


class OverloadedError(RefusedError):
    """There is no room for it, or no time any more, or it cannot be stored now: its sender may come again."""
