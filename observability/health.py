"""Liveness, readiness and start-up for an orchestrator: `/livez`, `/readyz`, `/startupz`.

Liveness looks at nothing outside the process: a database that is down must not restart its clients. Readiness asks
every dependency that registered a check, and fails as soon as the process begins to stop. Probes leave no telemetry.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from opentelemetry.instrumentation.utils import suppress_instrumentation
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)


class _Check(NamedTuple):
    run: Callable[[], Awaitable[None]]
    timeout_s: float
    only_warns: bool


class Report(NamedTuple):
    """What one probe found, reasons by name; all is well if there are none.

    Attributes:
        failed: What the service cannot do without.
        warned: What somebody should look at.
    """

    failed: dict[str, str]
    warned: dict[str, str]


class Health:
    """The state of one service as its probes see it.

    A service is started once its lifespan has come up, and ready while it is started, not draining, and every
    registered check passes.
    """

    def __init__(self) -> None:
        self._checks: dict[str, _Check] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._started = False
        self._draining = False

    def register(
        self, name: str, check: Callable[[], Awaitable[None]], *, timeout_s: float = 1.0, only_warns: bool = False
    ) -> None:
        """Let readiness depend on something.

        Args:
            name: What the answer of `/readyz` calls it.
            check: Returns when the dependency can be used, raises anything when it cannot.
            timeout_s: A check that takes longer, in seconds, has failed.
            only_warns: Whether the service is ready all the same, and `/readyz` says `warn`: for what taking requests
                away from it would not mend.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._checks:
            raise ValueError(f"a health check named {name!r} is registered already")
        self._checks[name] = _Check(check, timeout_s, only_warns)

    def start(self) -> None:
        """Say that start-up is complete."""
        self._started = True

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._draining

    def drain(self) -> None:
        """Fail readiness from now on, for good: the process is about to stop."""
        self._draining = True

    async def live(self) -> Report:
        """What is wrong with the process itself: nothing, as long as it can answer."""
        return Report({}, {})

    async def startup(self) -> Report:
        """What start-up is waiting for, until it is complete."""
        return Report({} if self._started else {"startup": "not complete"}, {})

    async def ready(self) -> Report:
        """Why the service must get no requests, and what else is not as it should be."""
        if self._draining:
            return Report({"drain": "stopping"}, {})
        if not self._started:
            return await self.startup()
        outcomes = await asyncio.gather(*(self._run(name) for name in self._checks))
        report = Report({}, {})
        for (name, check), reason in zip(self._checks.items(), outcomes, strict=True):
            if reason is not None:
                (report.warned if check.only_warns else report.failed)[name] = reason
        return report

    async def _run(self, name: str) -> str | None:
        """Why a check fails, or None. It runs once at a time, however many probes wait for it."""
        check = self._checks[name]
        running = self._running.get(name)
        if running is None or running.done():
            # A probe every few seconds is not worth a trace each; the task's context keeps this.
            with suppress_instrumentation():
                running = self._running[name] = asyncio.ensure_future(_call(check))
        # A task of its own, so that a check that does not heed its cancellation holds up no probe.
        await asyncio.wait({running}, timeout=check.timeout_s)
        if not running.done():
            running.cancel()
            return f"no answer within {check.timeout_s:g} s"
        error = asyncio.CancelledError() if running.cancelled() else running.exception()
        if error is None:
            return None
        # The reason may hold a URL with a password: it goes to the log, which is scrubbed, not to the caller.
        logger.warning("health check %s failed: %s", name, error or type(error).__name__)
        return type(error).__name__


async def _call(check: _Check) -> None:
    await check.run()


class HealthEndpoints:
    """ASGI middleware that answers the three probes itself; it stands outside everything that is observed."""

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self.app = app
        self._probes = {"/livez": health.live, "/readyz": health.ready, "/startupz": health.startup}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        probe = self._probes.get(scope["path"]) if scope["type"] == "http" else None
        if probe is None or scope["method"] not in ("GET", "HEAD"):
            return self.app(scope, receive, send)
        return _answer(probe, scope, send)


async def _answer(probe: Callable[[], Awaitable[Report]], scope: Scope, send: Send) -> None:
    failed, warned = await probe()
    answer: dict[str, object] = {"status": "fail" if failed else "warn" if warned else "pass"}
    answer |= {name: found for name, found in (("failed", failed), ("warned", warned)) if found}
    body = json.dumps(answer).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 503 if failed else 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
