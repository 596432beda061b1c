"""Deleting what need not be kept, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from observability.events.inbox import Inbox
from observability.events.pruning import PRUNE_BATCH, PRUNE_EVERY_S, pruned
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Minutes take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Table:
    """A table with so many old rows, whose database may fail."""

    def __init__(self, old: int = 0) -> None:
        self.old = old
        self.batches: list[int] = []
        self.down = False

    async def prune(self, limit: int) -> int:
        """Take away so many."""
        await asyncio.sleep(0)
        if self.down:
            raise OSError
        batch = min(limit, self.old)
        self.old -= batch
        self.batches.append(batch)
        return batch


def _as_inbox(table: Table) -> Inbox:
    return cast("Inbox", table)


async def test_batches() -> None:
    """Old rows go in batches, those of each table, and again a minute later."""
    full, empty = Table(2 * PRUNE_BATCH + 1), Table()
    async with pruned(_as_inbox(full), _as_inbox(empty)):
        await asyncio.sleep(PRUNE_EVERY_S / 2)
        assert full.batches == [PRUNE_BATCH, PRUNE_BATCH, 1]
        assert empty.batches == [0]
        full.old = 5
        await asyncio.sleep(PRUNE_EVERY_S)
        assert full.batches[3:] == [5]
    await asyncio.sleep(2 * PRUNE_EVERY_S)
    assert len(full.batches) == 4


async def test_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A database that fails is told of and tried again, and keeps no other table from being pruned."""
    failing, other = Table(1), Table(1)
    failing.down = True
    async with pruned(_as_inbox(failing), _as_inbox(other)):
        await asyncio.sleep(PRUNE_EVERY_S / 2)
        assert other.batches == [1]
        assert "old events could not be deleted: OSError" in caplog.text
        failing.down = False
        await asyncio.sleep(PRUNE_EVERY_S)
        assert failing.batches == [1]
