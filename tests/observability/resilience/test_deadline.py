"""The total time of a call."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from observability import deadline
from observability.resilience.call import call_of
from observability.resilience.deadline import Deadline, DeadlineOptions
from observability.resilience.decisions import Decision, Refusing
from observability.resilience.errors import DeadlineExceeded, DeadlineSpent
from tests.observability.resilience.conftest import Dependency

pytestmark = pytest.mark.anyio


async def _hang() -> httpx.Response:
    return await asyncio.Event().wait() and httpx.Response(200)


async def test_bounds_the_whole_call(decisions: list[Decision]) -> None:
    """A call that hangs ends when its time is over, which began before it waited for its place."""
    loop, request = asyncio.get_running_loop(), httpx.Request("GET", "http://inventory/")
    started = call_of(request.extensions).started
    await asyncio.sleep(1)
    with pytest.raises(DeadlineExceeded, match="no answer within 6 s"):
        await Deadline(Dependency(_hang), DeadlineOptions(), decisions.append).handle_async_request(request)
    assert loop.time() - started == pytest.approx(6.0)


async def test_of_the_request_that_is_served(decisions: list[Decision]) -> None:
    """A call takes no longer than the request that it is made for may take."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    deadline._deadline.set(started + 2)
    with pytest.raises(DeadlineExceeded):
        await Deadline(Dependency(_hang), DeadlineOptions(), decisions.append).handle_async_request(
            httpx.Request("GET", "http://inventory/")
        )
    assert loop.time() - started == pytest.approx(2.0)


async def test_nobody_waits(decisions: list[Decision]) -> None:
    """For a request whose time is over nothing is asked any more."""
    dependency, request = Dependency(), httpx.Request("GET", "http://inventory/")
    deadline._deadline.set(asyncio.get_running_loop().time())
    with pytest.raises(DeadlineSpent) as caught:
        await Deadline(dependency, DeadlineOptions(), decisions.append).handle_async_request(request)
    assert dependency.requests == []
    assert decisions == [Refusing(request, caught.value)]


async def test_cancelled(decisions: list[Decision]) -> None:
    """A caller that gives up is no deadline."""
    step = Deadline(Dependency(_hang), DeadlineOptions(), decisions.append)
    task = asyncio.create_task(step.handle_async_request(httpx.Request("GET", "http://inventory/")))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
