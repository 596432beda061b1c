"""The time by which the request that is being served has to be answered."""

from __future__ import annotations

from contextvars import ContextVar

TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in milliseconds.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
"""

_deadline: ContextVar[float] = ContextVar("clearspan.deadline", default=float("inf"))


def current_deadline() -> float:
    """When the request that is being served has to be answered, in the event loop's time; infinite outside of one."""
    return _deadline.get()
