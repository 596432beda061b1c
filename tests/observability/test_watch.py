"""One timer for the limits of all requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from observability.answer import Answer
from observability.watch import Limit, Watch
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Timeouts take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def _send(_message: Message) -> None:
    pass


async def _waiting(watch: Watch, seconds: float, answer: Answer | None = None) -> float | None:
    """When a limited wait of a minute was cut off, in seconds from its start; None if it was not."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    limit = Limit(answer or Answer(_send), started + seconds)
    watch.add(limit)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if not limit.leave():
            raise
        return loop.time() - started
    finally:
        watch.remove(limit)
    return None


async def test_each_at_its_time() -> None:
    """Limits end their tasks at their own times, whatever the order in which they came, and others go on."""
    watch = Watch()
    seconds = [3.0, 30.0, 1.0, 90.0, 2.0, 30.0]
    ended = await asyncio.gather(*(_waiting(watch, one) for one in seconds))
    assert ended == [pytest.approx(one) if one < 60 else None for one in seconds]


async def test_later_request() -> None:
    """A request that comes when all before it have ended is watched too."""
    watch = Watch()
    assert await _waiting(watch, 5.0) == pytest.approx(5.0)
    assert await _waiting(watch, 90.0) is None
    assert await _waiting(watch, 5.0) == pytest.approx(5.0)


async def test_begun_answer() -> None:
    """A task whose answer has begun goes on."""
    answer = Answer(_send)
    await answer.send({"type": "http.response.start"})
    assert await _waiting(Watch(), 5.0, answer) is None


async def test_cancelled_by_both() -> None:
    """A task that somebody else cancels too is cancelled."""
    watch = Watch()
    task = asyncio.create_task(_waiting(watch, 5.0))
    asyncio.get_running_loop().call_later(5.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_before() -> None:
    """A cancellation that a task has put up with before is not taken for another one."""

    async def stubborn() -> float | None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return await _waiting(Watch(), 5.0)
        return None

    task = asyncio.create_task(stubborn())
    asyncio.get_running_loop().call_later(1.0, task.cancel)
    assert await task == pytest.approx(5.0)


async def test_taken_back() -> None:
    """A task that ends in spite of its limit is not left cancelled."""
    loop = asyncio.get_running_loop()
    limit, watch = Limit(Answer(_send), loop.time() + 5.0), Watch()
    watch.add(limit)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(60)
    assert limit.leave()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_outside_of_a_task() -> None:
    """There has to be a task that can be cancelled."""

    async def limit() -> None:
        error = asyncio.get_running_loop().create_future()

        def make() -> None:
            try:
                Limit(Answer(_send), 0.0)
            except RuntimeError as raised:
                error.set_result(raised)

        asyncio.get_running_loop().call_soon(make)
        assert isinstance(await error, RuntimeError)

    asyncio.run(limit())
