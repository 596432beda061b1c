"""Tasks that live as long as a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def running_task(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run something without end beside a block, and cancel it at the block's end; what it raises is raised then.

    Args:
        work: What to run.
        name: What the task is called where tasks are listed.
    """
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end(task)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and return when it has ended; what it raises is raised here."""
    task.cancel()
    await asyncio.wait({task})  # unlike `await task`, it lets whoever waits be cancelled too
    if not task.cancelled():
        task.result()
