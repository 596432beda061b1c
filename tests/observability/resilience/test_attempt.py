"""The time of one attempt."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
import pytest

from observability.deadline import TIMEOUT_HEADER
from observability.resilience.attempt import AttemptOptions, AttemptTimeout
from observability.resilience.call import call_of, was_sent
from observability.resilience.decisions import Attempted, Decision, Refusing
from observability.resilience.errors import AttemptTimedOut, DeadlineSpent
from tests.observability.resilience.conftest import Answer, Dependency

pytestmark = pytest.mark.anyio


async def _hang() -> httpx.Response:
    return await asyncio.Event().wait() and httpx.Response(200)


def _request(remaining_s: float = float("inf")) -> httpx.Request:
    request = httpx.Request("GET", "http://inventory/")
    call = call_of(request.extensions)
    call.deadline = call.started + remaining_s
    return request


async def test_ends_in_time(decisions: list[Decision]) -> None:
    """An attempt that hangs ends when its time is over."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(AttemptTimedOut, match="no answer within 2 s"):
        await AttemptTimeout(Dependency(_hang), AttemptOptions(), decisions.append).handle_async_request(_request())
    assert loop.time() - started == pytest.approx(2.0)


@pytest.mark.parametrize(("remaining_s", "told"), [(60.0, "2000"), (0.5, "500")])
async def test_dependency_is_told(remaining_s: float, told: str, decisions: list[Decision]) -> None:
    """The dependency is told how long its caller waits: the attempt's time, or what is left of the call's."""
    dependency = Dependency()
    await AttemptTimeout(dependency, AttemptOptions(), decisions.append).handle_async_request(_request(remaining_s))
    assert dependency.requests[0].headers[TIMEOUT_HEADER] == told


async def test_stranger_is_not_told(decisions: list[Decision]) -> None:
    """A service that is not our own is told nothing."""
    dependency = Dependency()
    options = AttemptOptions(tell_dependency=False)
    await AttemptTimeout(dependency, options, decisions.append).handle_async_request(_request())
    assert TIMEOUT_HEADER not in dependency.requests[0].headers


async def test_no_time_left(decisions: list[Decision]) -> None:
    """Without time nothing is sent."""
    dependency, request = Dependency(), _request(0.0)
    with pytest.raises(DeadlineSpent) as caught:
        await AttemptTimeout(dependency, AttemptOptions(), decisions.append).handle_async_request(request)
    assert dependency.requests == []
    assert decisions == [Refusing(request, caught.value)]


@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        (200, True),
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("late"), False),
        (httpx.PoolTimeout("busy"), False),
        (httpx.ReadError("reset"), True),
        (_hang, True),
    ],
)
async def test_whether_it_was_sent(answer: Answer, sent: bool, decisions: list[Decision]) -> None:
    """What found no connection was not sent; everything else may have been."""
    request = _request()
    step = AttemptTimeout(Dependency(answer), AttemptOptions(), decisions.append)
    with suppress(httpx.TransportError):
        await step.handle_async_request(request)
    assert was_sent(httpx.TransportError("any", request=request)) is sent


async def test_sent_before(decisions: list[Decision]) -> None:
    """A call one of whose attempts was sent stays one, though the next finds no connection."""
    request = _request()
    step = AttemptTimeout(Dependency(503, httpx.ConnectError("refused")), AttemptOptions(), decisions.append)
    await step.handle_async_request(request)
    with pytest.raises(httpx.ConnectError):
        await step.handle_async_request(request)
    assert call_of(request.extensions).sent


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (200, None),
        (503, "503"),
        (404, "404"),
        (httpx.ConnectError("refused"), "ConnectError"),
        (_hang, "AttemptTimedOut"),
    ],
)
async def test_is_told(answer: Answer, error_type: str | None, decisions: list[Decision]) -> None:
    """How each attempt ended is told once, also of one that got no answer."""
    step = AttemptTimeout(Dependency(answer), AttemptOptions(), decisions.append)
    with suppress(httpx.TransportError):
        await step.handle_async_request(_request())
    assert decisions == [Attempted(error_type)]


async def test_cancelled_is_told(decisions: list[Decision]) -> None:
    """An attempt whose caller gave up is told as that."""
    step = AttemptTimeout(Dependency(_hang), AttemptOptions(), decisions.append)
    task = asyncio.create_task(step.handle_async_request(_request()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert decisions == [Attempted("cancelled")]
