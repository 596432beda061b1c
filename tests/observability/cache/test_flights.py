"""One load for all who wait, and who may end it."""

from __future__ import annotations

import asyncio
import gc

import pytest
from opentelemetry.trace import INVALID_SPAN

from observability import Telemetry
from observability.cache.flights import MAX_IN_BACKGROUND, Flight, Flights, LoadCancelledError

pytestmark = pytest.mark.anyio


class Load:
    """A load that ends when the test lets it, and knows whether it was cancelled."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.gate = asyncio.Event()
        self.error = error
        self.begun = 0
        self.cancelled = 0

    async def __call__(self, flight: Flight) -> None:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        flight.landed.set_result(b"value")


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _fly(flights: Flights, load: Load, *, background: bool = False) -> Flight:
    return flights.start("key", load, INVALID_SPAN, background=background)


async def test_shared() -> None:
    """All who wait get the value of the one load, and then nothing is left of it."""
    flights, load = Flights(), Load()
    flight = _fly(flights, load)
    waiting = [asyncio.create_task(flights.wait("key", flight)) for _ in range(100)]
    await _turns()
    assert flights.find("key") is flight
    load.gate.set()
    assert await asyncio.gather(*waiting) == [b"value"] * 100
    await _turns()
    assert (load.begun, flights.find("key"), flights._tasks) == (1, None, set())


@pytest.mark.parametrize("leaving", [[0], [0, 1], [2], [0, 1, 2]])
async def test_callers_leave(leaving: list[int]) -> None:
    """Callers may be cancelled one by one; only with the last one the load is, and nobody can join it then."""
    flights, load = Flights(), Load()
    flight = _fly(flights, load)
    waiting = [asyncio.create_task(flights.wait("key", flight)) for _ in range(3)]
    await _turns()
    for index in leaving:
        waiting[index].cancel()
    await asyncio.wait([waiting[index] for index in leaving])
    if len(leaving) == 3:
        assert flights.find("key") is None
        await _turns()
        assert load.cancelled == 1
        return
    load.gate.set()
    await _turns()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [index for index, outcome in enumerate(outcomes) if outcome != b"value"] == leaving
    assert load.cancelled == 0


async def test_cancelled_before_the_first_step(telemetry: Telemetry) -> None:
    """A load that is cancelled before it began never begins, and leaves nothing behind, no open span either."""
    flights, load = Flights(), Load()
    span = telemetry.tracer_provider.get_tracer("test").start_span("load")
    flight = flights.start("key", load, span, background=False)
    flight.task.cancel()
    with pytest.raises(LoadCancelledError):
        await flights.wait("key", flight)
    await _turns()
    assert (load.begun, flights.find("key"), flights._tasks, span.is_recording()) == (0, None, set(), False)


async def test_error() -> None:
    """An error reaches all who wait, and nobody who comes later."""
    flights, load = Flights(), Load(ValueError("no"))
    flight = _fly(flights, load)
    waiting = [asyncio.create_task(flights.wait("key", flight)) for _ in range(3)]
    load.gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
    assert flights.find("key") is None


async def test_cancels_itself() -> None:
    """A load that is cancelled from within is an error to its callers, who are not cancelled themselves."""
    flights, load = Flights(), Load(asyncio.CancelledError())
    flight = _fly(flights, load)
    load.gate.set()
    with pytest.raises(LoadCancelledError):
        await flights.wait("key", flight)


async def test_slow_to_end() -> None:
    """A load that is cancelled can be joined by nobody, though it takes its time to end."""
    flights, end = Flights(), asyncio.Event()

    async def load(flight: Flight) -> None:
        try:
            await flight.landed
        finally:
            await end.wait()

    flight = flights.start("key", load, INVALID_SPAN, background=False)
    waiting = asyncio.create_task(flights.wait("key", flight))
    await _turns()
    waiting.cancel()
    await _turns()
    assert not flight.task.done()
    assert flights.find("key") is None
    end.set()
    await _turns()
    assert flight.task.done()


async def test_nobody_waits() -> None:
    """An error that nobody waits for is no complaint of the event loop."""
    flights, load = Flights(), Load(ValueError("no"))
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    _fly(flights, load, background=True)
    load.gate.set()
    await _turns()
    del load  # its error holds on to the flight
    gc.collect()
    assert complaints == []


async def test_background() -> None:
    """A load in the background goes on without callers, also when one came and went."""
    flights, load = Flights(), Load()
    flight = _fly(flights, load, background=True)
    waiting = asyncio.create_task(flights.wait("key", flight))
    await _turns()
    waiting.cancel()
    await _turns()
    assert (load.cancelled, flights.find("key")) == (0, flight)
    load.gate.set()
    await _turns()
    assert flight.landed.result() == b"value"


async def test_background_bound() -> None:
    """There is a bound on the loads that nobody waits for, and each gives its place back."""
    flights, load = Flights(), Load()
    for n in range(MAX_IN_BACKGROUND):
        assert not flights.full
        flights.start(n, load, INVALID_SPAN, background=True)
    assert flights.full
    load.gate.set()
    await _turns()
    assert not flights.full


async def test_close() -> None:
    """Closing cancels what runs, tells those who wait, and lets nothing begin."""
    flights, load = Flights(), Load()
    flight = _fly(flights, load)
    waiting = asyncio.create_task(flights.wait("key", flight))
    await _turns()
    await flights.aclose()
    assert load.cancelled == 1
    with pytest.raises(LoadCancelledError):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        _fly(flights, load)
