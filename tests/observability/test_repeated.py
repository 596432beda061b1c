"""Work that is done again and again beside a block."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from observability.tasks import END_TIMEOUT_S, repeated
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Waits take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Work:
    """Takes its time, and counts its runs."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.begun = self.ended = 0

    async def __call__(self) -> None:
        self.begun += 1
        await asyncio.sleep(self._takes_s)
        self.ended += 1


async def test_repeated() -> None:
    """Work is done at once, and again after each wait."""
    work = Work(1)
    async with repeated(work, 10, "work"):
        await asyncio.sleep(22.5)
    assert (work.begun, work.ended) == (3, 3)


async def test_under_way() -> None:
    """A run that is under way at the block's end comes to its own end, and is the last one."""
    work = Work(2)
    async with repeated(work, 10, "work"):
        await asyncio.sleep(1)
    assert (work.begun, work.ended) == (1, 1)


async def test_without_end() -> None:
    """A run that takes too long after the block's end is cut off."""
    work = Work(2 + END_TIMEOUT_S)
    async with repeated(work, 10, "work"):
        await asyncio.sleep(1)
    assert (work.begun, work.ended) == (1, 0)


async def test_error() -> None:
    """What a run raises ends the work, and is raised at the block's end."""

    async def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        async with repeated(fail, 10, "work"):
            await asyncio.sleep(50)
