"""Tasks that live as long as a block."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

END_TIMEOUT_S = 3.0
"""How long a run that is under way may take to come to its end, and a task that is cancelled to do so, in seconds."""

CANCEL_AGAIN_S = 1.0
"""How long a cancelled task may take to end before it is cancelled again, in seconds."""

logger = logging.getLogger(__name__)


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


@asynccontextmanager
async def repeated(work: Callable[[], Awaitable[object]], every_s: float, name: str) -> AsyncIterator[None]:
    """Run something now and again beside a block; at the block's end a run that is under way comes to its own end.

    So a statement of a database is not cut off, which would cost the connection; unless it takes longer than
    END_TIMEOUT_S. What it raises ends it, and is raised at the block's end.

    Args:
        work: What to run.
        every_s: The wait after each run, in seconds.
        name: What the task is called where tasks are listed.
    """
    ending = asyncio.Event()

    async def run() -> None:
        while not ending.is_set():
            await work()
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), every_s)

    task = asyncio.create_task(run(), name=name)
    try:
        yield
    finally:
        ending.set()
        await asyncio.wait({task}, timeout=END_TIMEOUT_S)
        await end(task)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and return when it has ended; what it raises is raised here.

    Some libraries swallow a cancellation. So it is cancelled again as often as that takes, up to END_TIMEOUT_S.
    """
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)  # lets whoever waits be cancelled too
    except TimeoutError:
        logger.error("the task %r does not end; it is left behind", task.get_name())  # noqa: TRY400 - no stack says why
        return
    if not task.cancelled():
        task.result()
