"""What waits, as metrics and as a warning."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import Health, observe
from observability.events import backlog as backlog_module
from observability.events import outbox as outbox_module
from observability.events.backlog import MAX_AGE_S, BacklogError, check_backlog, watched
from observability.events.outbox import Outbox
from observability.providers import Telemetry
from observability.testing import Recorder, client_for, running
from tests.observability.events.conftest import an_event, until

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """The service's."""
    return recorder.telemetry("shop")


@pytest.fixture
async def outbox(sqlite_engine: AsyncEngine, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """An outbox in which one event is dead and two wait, since 100 s and less."""
    outbox = Outbox(sqlite_engine, "shop", telemetry)
    for ago_s in (200, 100, 50):
        monkeypatch.setattr(outbox_module, "time", lambda at=NOW - ago_s: at)
        async with sqlite_engine.begin() as connection:
            await outbox.add(connection, an_event(str(ago_s)))
    (first,) = await outbox.claim("one", 1, lease_s=30)
    await outbox.refused("one", first, "never", again_in_s=None)
    monkeypatch.setattr(outbox_module, "time", lambda: NOW)
    return outbox


def _measured(recorder: Recorder) -> dict[str, float]:
    return {
        name.removeprefix("clearspan.outbox."): points[0].value
        for name, points in recorder.metrics("shop").items()
        if name.startswith("clearspan.outbox.")
    }


async def test_metrics(outbox: Outbox, telemetry: Telemetry, recorder: Recorder) -> None:
    """How many events wait and are dead, and how long the oldest one has waited, is measured without a relay."""
    recorder.clear()
    async with watched(outbox, telemetry):
        await until(lambda: bool(_measured(recorder)))
    assert _measured(recorder) == {"pending": 2, "oldest.age": 100.0, "dead": 1}
    assert recorder.spans == []


async def test_measured_again(
    outbox: Outbox, telemetry: Telemetry, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured again and again, also after the database has failed."""
    monkeypatch.setattr(backlog_module, "EVERY_S", 0.001)
    failed = asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise OSError

    async with watched(outbox, telemetry):
        await until(lambda: _measured(recorder).get("pending") == 2)
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "backlog", fail)
            await failed.wait()
        await outbox.sent("one", [one.seq for one in await outbox.claim("one", 10, lease_s=30)])
        await until(lambda: _measured(recorder).get("pending") == 0)


async def test_check(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that has waited too long is worth an error that says how long, and a younger one is not."""
    with pytest.raises(BacklogError, match="2 events wait, the oldest for 100 s"):
        await check_backlog(outbox)
    monkeypatch.setattr(outbox_module, "time", lambda: NOW - 100 + MAX_AGE_S)
    await check_backlog(outbox)


async def test_readiness(outbox: Outbox, telemetry: Telemetry) -> None:
    """A service whose events wait is ready all the same, and says that something should be looked at."""
    app, health = FastAPI(), Health()
    health.register("outbox", partial(check_backlog, outbox), only_warns=True)
    observe(app, telemetry, health=health)
    async with running(app), client_for(app) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "warn", "warned": {"outbox": "BacklogError"}}
