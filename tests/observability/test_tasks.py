"""Tasks that live as long as a block."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from observability.tasks import running_task

pytestmark = pytest.mark.anyio


async def test_ends_with_the_block() -> None:
    """The task runs beside the block, under its name, and has ended when the block has."""
    happened: list[str] = []
    began = asyncio.Event()

    async def work() -> None:
        current = asyncio.current_task()
        assert current is not None
        happened.append(current.get_name())
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            happened.append("ended")

    async with running_task(work(), "work"):
        await began.wait()
    assert happened == ["work", "ended"]


async def test_never_began() -> None:
    """A block that ends at once takes the task with it, which then never began."""
    async with running_task(asyncio.sleep(3600), "work"):
        pass


async def test_failure() -> None:
    """What the task has raised is raised at the end of the block."""

    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with running_task(work(), "work"):
            await asyncio.sleep(0)


async def test_cancelled_while_it_ends() -> None:
    """Who is cancelled while the task takes its time to end does not go on as if nothing had been said."""
    ending, release = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await release.wait()

    went_on = False

    async def block() -> None:
        nonlocal went_on
        async with running_task(work(), "work"):
            await asyncio.sleep(0)
        went_on = True

    task = asyncio.create_task(block())
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on
    release.set()


async def test_swallowed_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that swallows its cancellation, as some libraries do, is cancelled again until it ends."""
    monkeypatch.setattr("observability.tasks.CANCEL_AGAIN_S", 0.01)
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    async with running_task(work(), "work"):
        await asyncio.sleep(0)
    assert swallowed == 3


async def test_endless_task(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A task that cannot be ended holds the block up no longer than it may, and is named."""
    monkeypatch.setattr("observability.tasks.CANCEL_AGAIN_S", 0.01)
    monkeypatch.setattr("observability.tasks.END_TIMEOUT_S", 0.05)
    released = asyncio.Event()

    async def work() -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    async with running_task(work(), "stubborn"):
        await asyncio.sleep(0)
    released.set()
    assert "the task 'stubborn' does not end" in caplog.text
