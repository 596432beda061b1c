"""So many calls at once."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from observability.resilience.bulkhead import Bulkhead, BulkheadOptions
from observability.resilience.decisions import Decision, Refusing, Waited
from observability.resilience.errors import BulkheadFull
from tests.observability.resilience.conftest import Dependency

pytestmark = pytest.mark.anyio

OPTIONS = BulkheadOptions(max_calls=2, max_waiting=1, max_wait_s=3)


class Gate:
    """A dependency that answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.transport = Dependency(self._answer)

    async def _answer(self) -> httpx.Response:
        await self.open.wait()
        return httpx.Response(200)


def _ask(bulkhead: Bulkhead) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(bulkhead.handle_async_request(httpx.Request("GET", "http://inventory/")))


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_refuses_beyond(decisions: list[Decision]) -> None:
    """As many as may be are under way, as many as may wait do, and one more is refused at once."""
    gate = Gate()
    bulkhead = Bulkhead(gate.transport, OPTIONS, decisions.append)
    tasks = [_ask(bulkhead) for _ in range(3)]
    await _settle()
    assert bulkhead.under_way == len(gate.transport.requests) == 2
    with pytest.raises(BulkheadFull, match="2 calls are under way and 1 wait"):
        await _ask(bulkhead)
    gate.open.set()
    assert [(await task).status_code for task in tasks] == [200, 200, 200]
    assert bulkhead.under_way == 0
    assert [type(decision) for decision in decisions] == [Refusing, Waited]


async def test_wait_has_a_limit(decisions: list[Decision]) -> None:
    """A call that finds no place in time is refused, and later ones find theirs."""
    gate = Gate()
    bulkhead = Bulkhead(gate.transport, OPTIONS, decisions.append)
    tasks = [_ask(bulkhead) for _ in range(3)]
    with pytest.raises(BulkheadFull, match="none ended within 3 s"):
        await tasks[2]
    gate.open.set()
    await asyncio.gather(*tasks[:2])
    assert (await _ask(bulkhead)).status_code == 200


async def test_how_long_it_waited(decisions: list[Decision]) -> None:
    """A call that waited is told with its time."""
    gate = Gate()
    bulkhead = Bulkhead(gate.transport, OPTIONS, decisions.append)
    tasks = [_ask(bulkhead) for _ in range(3)]
    asyncio.get_running_loop().call_later(2.0, gate.open.set)
    await asyncio.gather(*tasks)
    assert decisions == [Waited(2.0)]


@pytest.mark.parametrize("which", [0, 2], ids=["under way", "waiting"])
async def test_cancelled(which: int, decisions: list[Decision]) -> None:
    """A caller that gives up leaves its place to others, under way or waiting."""
    gate = Gate()
    bulkhead = Bulkhead(gate.transport, OPTIONS, decisions.append)
    tasks = [_ask(bulkhead) for _ in range(3)]
    await _settle()
    tasks[which].cancel()
    await _settle()
    gate.open.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bulkhead.under_way == 0
    assert [(await _ask(bulkhead)).status_code for _ in range(3)] == [200, 200, 200]


async def test_cancelled_when_its_place_is_free(decisions: list[Decision]) -> None:
    """A caller that is cancelled in the moment in which it gets a place does not take it along."""
    gate = Gate()
    bulkhead = Bulkhead(gate.transport, BulkheadOptions(max_calls=1, max_waiting=5), decisions.append)
    first, second, third = (_ask(bulkhead) for _ in range(3))
    await _settle()
    gate.open.set()
    await first
    second.cancel()
    assert (await third).status_code == 200
    assert bulkhead.under_way == 0


async def test_failing_call(decisions: list[Decision]) -> None:
    """A call that fails leaves its place too."""
    bulkhead = Bulkhead(Dependency(httpx.ReadError("reset")), OPTIONS, decisions.append)
    for _ in range(5):
        with pytest.raises(httpx.ReadError):
            await _ask(bulkhead)
    assert bulkhead.under_way == 0


async def test_close(decisions: list[Decision]) -> None:
    """Closing reaches the connections."""
    dependency = Dependency()
    await Bulkhead(dependency, OPTIONS, decisions.append).aclose()
    assert dependency.closed
