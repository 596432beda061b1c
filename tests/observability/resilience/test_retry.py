"""Asking again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from observability.resilience.budget import RetryBudget
from observability.resilience.call import call_of
from observability.resilience.decisions import Decision, NotRetrying, Retrying
from observability.resilience.errors import AnswerTooLarge, AttemptTimedOut, BreakerOpen
from observability.resilience.retry import Retry, RetryOptions
from tests.observability.resilience.conftest import Answer, Dependency

pytestmark = pytest.mark.anyio

REFUSED, RESET = httpx.ConnectError("refused"), httpx.ReadError("reset")


async def _ask(
    dependency: Dependency,
    decisions: list[Decision],
    method: str = "GET",
    *,
    remaining_s: float = 60.0,
    options: RetryOptions | None = None,
    **request: Any,
) -> httpx.Response:
    options = options or RetryOptions()
    budget = RetryBudget(options.budget_ratio, options.budget_floor)
    retry = Retry(dependency, options, budget, decisions.append, jitter=lambda: 0.5)
    asked = httpx.Request(method, "http://inventory/", **request)
    call = call_of(asked.extensions)
    call.deadline = call.started + remaining_s
    return await retry.handle_async_request(asked)


@pytest.mark.parametrize("failure", [408, 429, 500, 502, 503, 504, REFUSED, RESET, AttemptTimedOut("late")])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_safe_methods(failure: Answer, method: str, decisions: list[Decision]) -> None:
    """What is safe to repeat is repeated after every failure that may pass."""
    dependency = Dependency(failure, 200)
    assert (await _ask(dependency, decisions, method)).status_code == 200
    assert len(dependency.requests) == 2
    assert [type(decision) for decision in decisions] == [Retrying]


@pytest.mark.parametrize("failure", [500, 503, RESET, AttemptTimedOut("late")])
async def test_unsafe_method(failure: Answer, decisions: list[Decision]) -> None:
    """A POST that may have been done is not repeated."""
    dependency = Dependency(failure, 200)
    with suppress(httpx.TransportError):
        await _ask(dependency, decisions, "POST")
    assert len(dependency.requests) == 1
    assert [decision.because for decision in decisions if isinstance(decision, NotRetrying)] == ["method"]


async def test_never_sent(decisions: list[Decision]) -> None:
    """A POST that found no connection is repeated: nobody can have done it."""
    dependency = Dependency(REFUSED, 200)
    assert (await _ask(dependency, decisions, "POST", json={})).status_code == 200


async def test_idempotency_key(decisions: list[Decision]) -> None:
    """A POST with an Idempotency-Key is repeated."""
    dependency = Dependency(503, 200)
    assert (await _ask(dependency, decisions, "POST", headers={"Idempotency-Key": "k"})).status_code == 200


@pytest.mark.parametrize("answer", [200, 201, 302, 400, 402, 404, 409, 422, 501])
async def test_answers_that_stay(answer: int, decisions: list[Decision]) -> None:
    """An answer that would be the same the next time is taken."""
    dependency = Dependency(answer)
    assert (await _ask(dependency, decisions)).status_code == answer
    assert (len(dependency.requests), decisions) == (1, [])


@pytest.mark.parametrize(
    "error", [BreakerOpen("open", retry_after_s=1), httpx.PoolTimeout("busy"), AnswerTooLarge("long")]
)
async def test_errors_that_stay(error: Exception, decisions: list[Decision]) -> None:
    """What the chain itself refused, our own full pool and too long an answer are not tried again."""
    dependency = Dependency(error)
    with pytest.raises(type(error)):
        await _ask(dependency, decisions)
    assert (len(dependency.requests), decisions) == (1, [])


async def test_attempts_end(decisions: list[Decision]) -> None:
    """After the last attempt its answer is the call's."""
    dependency = Dependency(503, 502, 500)
    assert (await _ask(dependency, decisions)).status_code == 500
    assert decisions == [
        Retrying(1, "503", 0.05),
        Retrying(2, "502", 0.1),
        NotRetrying(3, "500", "attempts"),
    ]


async def test_last_error(decisions: list[Decision]) -> None:
    """After the last attempt its error is the call's."""
    with pytest.raises(httpx.ReadError, match="reset"):
        await _ask(Dependency(503, REFUSED, RESET), decisions)


async def test_waits(decisions: list[Decision]) -> None:
    """Between attempts a random part of a bound that doubles is waited, up to the most."""
    started = asyncio.get_running_loop().time()
    options = RetryOptions(max_attempts=6, base_delay_s=1, max_delay_s=4, budget_floor=10)
    await _ask(Dependency(503), decisions, options=options)
    assert [decision.delay_s for decision in decisions if isinstance(decision, Retrying)] == [0.5, 1, 2, 2, 2]
    assert asyncio.get_running_loop().time() - started == pytest.approx(7.5)


async def test_retry_after_seconds(decisions: list[Decision]) -> None:
    """What the dependency asks for is waited, and the random part on top of it."""
    answer = httpx.Response(503, headers={"retry-after": "7"})
    await _ask(Dependency(answer, 200), decisions)
    assert decisions == [Retrying(1, "503", 7.05)]


async def test_retry_after_date(decisions: list[Decision]) -> None:
    """A date is understood too."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    await _ask(Dependency(httpx.Response(503, headers={"retry-after": when}), 200), decisions)
    (decision,) = decisions
    assert isinstance(decision, Retrying)
    assert 25 < decision.delay_s <= 30.05


@pytest.mark.parametrize("value", ["-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "", "9" * 400, "\u0661"])
async def test_odd_retry_after(value: str, decisions: list[Decision]) -> None:
    """What is past or no time at all is as if it were not there; what is too long ends the call at once."""
    answer = httpx.Response(503, headers=[(b"retry-after", value.encode())])
    response = await _ask(Dependency(answer, 200), decisions)
    assert response.status_code == (503 if "9" in value else 200)


async def test_deadline(decisions: list[Decision]) -> None:
    """An attempt that could only begin after the deadline is not waited for."""
    answer = httpx.Response(503, headers={"retry-after": "60"})
    started = asyncio.get_running_loop().time()
    assert (await _ask(Dependency(answer), decisions, remaining_s=59)).status_code == 503
    assert decisions == [NotRetrying(1, "503", "deadline")]
    assert asyncio.get_running_loop().time() == started


async def test_body_that_is_used_up(decisions: list[Decision]) -> None:
    """A body that cannot be sent again is not."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await _ask(Dependency(503, 200), decisions, "PUT", content=body())).status_code == 503
    assert decisions == [NotRetrying(1, "503", "body")]


async def test_budget(decisions: list[Decision]) -> None:
    """Of many calls to a dependency that only fails, at most the budget's share is repeated."""
    dependency = Dependency(503)
    retry = Retry(dependency, RetryOptions(), RetryBudget(0.2, 3), decisions.append)
    for _ in range(1000):
        request = httpx.Request("GET", "http://inventory/")
        await retry.handle_async_request(request)
    assert len(dependency.requests) <= 1000 * 1.2 + 3
    assert len(dependency.requests) > 1190
    assert any(isinstance(one, NotRetrying) and one.because == "budget" for one in decisions)


async def test_cancelled_while_it_waits(decisions: list[Decision]) -> None:
    """A caller that gives up during a wait ends the call; nothing more is sent."""
    dependency = Dependency(httpx.Response(503, headers={"retry-after": "7"}), 200)
    task = asyncio.create_task(_ask(dependency, decisions))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(30)
    assert len(dependency.requests) == 1
