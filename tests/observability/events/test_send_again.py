"""Events that were sent, and are to be sent again since what had taken them has lost them."""

from __future__ import annotations

from pathlib import Path
from time import time

import pytest

from observability.database import create_engine
from observability.events import outbox as module
from observability.events.outbox import Outbox, outbox_table
from observability.testing import Recorder
from tests.observability.events.broker import placed

pytestmark = pytest.mark.anyio


async def test_sent_between_two_times(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that were sent between two times wait again, in their order; those sent earlier or later do not."""
    monkeypatch.setattr(module, "_AGAIN_BATCH", 2)
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("test").create)
    outbox = Outbox(engine, "test", recorder.telemetry("test"))
    times = []
    for begin in (0, 5, 10):
        async with engine.begin() as transaction:
            for number in range(begin, begin + 5):
                await outbox.add(transaction, placed(number))
        claimed = await outbox.claim("relay", 10, lease_s=30)
        times.append(time())
        await outbox.sent("relay", [one.seq for one in claimed])
        times.append(time())
    assert (await outbox.backlog()).pending == 0

    assert await outbox.send_again(times[2], times[3]) == 5

    again = await outbox.claim("relay", 10, lease_s=30)
    assert [one.event.id for one in again] == [f"event-{number}" for number in range(5, 10)]
    await outbox.sent("relay", [one.seq for one in again])
    assert await outbox.send_again(times[2], times[3]) == 0  # they are sent later now
    await engine.dispose()
