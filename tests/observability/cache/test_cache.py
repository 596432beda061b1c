"""Get or load: what callers see, on each kind of store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from observability import Telemetry, deadline
from observability.cache import Cache, Cached, LoadCancelledError
from observability.cache.memory import MemoryStore
from observability.cache.store import Entry
from observability.deadline import current_deadline
from observability.telemetry import CACHE_LOAD_DURATION, CACHE_REQUESTS, CACHE_RESULT, CACHE_STALE, CACHE_STORE_ERRORS
from observability.testing import Recorder
from tests.observability.cache.conftest import Kind
from tests.observability.cache.fakes import Clock, FailingStore

pytestmark = pytest.mark.anyio

TTL_S = 1.0


class Source:
    """What is loaded: a value that changes, behind a gate that is open unless the test shuts it."""

    def __init__(self, value: Any = "first") -> None:
        self.value = value
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> Any:
        self.loads += 1
        value = self.value
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


@pytest.fixture
def make(telemetry: Telemetry, clock: Clock) -> Callable[..., Cache[Any]]:
    """A cache whose random numbers are all 0: full time to live, no early refresh."""

    def cache(store: Any, **options: Any) -> Cache[Any]:
        return Cache("things", store, telemetry, **{"ttl_s": TTL_S, "clock": clock, "uniform": lambda: 0.0, **options})

    return cache


@pytest.fixture
def memory(telemetry: Telemetry, clock: Clock) -> MemoryStore:
    """A store in memory."""
    return MemoryStore(100, telemetry, clock=clock)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - turns of the loop, until what was started has come so far
            await asyncio.sleep(0)


async def _quiet(cache: Cache[Any]) -> None:
    """Wait until all that was loaded has been put."""
    await _until(lambda: not cache._flights._tasks)


async def test_kept(kind: Kind, make: Callable[..., Cache[Any]]) -> None:
    """A value is loaded once and then kept, for every replica, until its time is over."""
    here, there, source = make(kind.replica()), make(kind.replica()), Source({"a": [1, None, "ü"]})
    assert await here.get("key", source) == Cached({"a": [1, None, "ü"]}, 0.0, stale=False)
    await _quiet(here)
    kept = await there.get("key", source)
    assert (kept.value, kept.stale, source.loads) == (source.value, False, 1)
    await kind.pass_time(TTL_S)
    source.value = "second"
    assert (await there.get("key", source)).value == "second"


async def test_hundred_callers(kind: Kind, make: Callable[..., Cache[Any]]) -> None:
    """A hundred callers wait for one load, and each gets a value of its own."""
    cache, source = make(kind.replica()), Source([])
    source.gate.clear()
    callers = [asyncio.create_task(cache.get("key", source)) for _ in range(100)]
    await _until(lambda: [flight.waiting for flight in cache._flights._flights.values()] == [100])
    source.gate.set()
    answers = await asyncio.gather(*callers)
    answers[0].value.append("mine")
    assert [answer.value for answer in answers[1:]] == [[]] * 99
    assert source.loads == 1


@pytest.mark.parametrize("invalidating", ["here", "elsewhere"])
async def test_overtaken_load(kind: Kind, make: Callable[..., Cache[Any]], invalidating: str) -> None:
    """A load that an invalidation overtakes, here or elsewhere, is not kept, and later callers do not wait for it."""
    here = make(kind.replica())
    elsewhere = here if invalidating == "here" else make(kind.replica())
    source = Source("old")
    source.gate.clear()
    early = asyncio.create_task(here.get("key", source))
    await _until(lambda: source.loads == 1)
    source.value = "new"
    await elsewhere.invalidate("key")
    late = asyncio.create_task(here.get("key", source))
    await _until(lambda: source.loads == 2)
    source.gate.set()
    assert ((await early).value, (await late).value) == ("old", "new")
    await _quiet(here)
    assert (await here.get("key", source)).value == "new"
    assert (await elsewhere.get("key", source)).value == "new"
    assert source.loads == 2


async def test_overtaken_refresh(kind: Kind, make: Callable[..., Cache[Any]]) -> None:
    """A load in the background that an invalidation overtakes does not bring the old value back."""
    cache, source = make(kind.replica(), uniform=lambda: 1 - 2**-53), Source("old")
    version = (await cache._store.read(cache._key("key"), hold_s=10)).version
    await cache._store.put(cache._key("key"), version, Entry(b'"old"', TTL_S, 1.0), life_s=60)
    source.gate.clear()
    assert (await cache.get("key", source)).value == "old"
    await _until(lambda: source.loads == 1)
    source.value = "new"
    await cache.invalidate("key")
    source.gate.set()
    await _quiet(cache)
    assert (await cache.get("key", source)).value == "new"


async def test_error_is_not_kept(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """What a load raises reaches the caller, and the next call loads again."""
    cache, source = make(memory), Source()
    source.error = ValueError("no")
    for loads in (1, 2):
        with pytest.raises(ValueError, match="no"):
            await cache.get("key", source)
        assert source.loads == loads
    source.error = None
    assert (await cache.get("key", source)).value == "first"


async def test_stale_on_error(kind: Kind, make: Callable[..., Cache[Any]]) -> None:
    """While loads fail, the last value is given with its age, marked as stale, up to a bound."""
    cache, source = make(kind.replica(), max_stale_s=30), Source()
    await cache.get("key", source)
    await _quiet(cache)
    source.error = ValueError("no")
    await kind.pass_time(20)
    answer = await cache.get("key", source)
    assert (answer.value, answer.stale) == ("first", True)
    assert 20 <= answer.age_s < 30
    await kind.pass_time(TTL_S + 10.5)
    with pytest.raises(ValueError, match="no"):
        await cache.get("key", source)


async def test_not_stale_when_invalidated(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """A value that was invalidated is not given, not even when the load fails."""
    cache, source = make(memory, max_stale_s=30), Source()
    await cache.get("key", source)
    await cache.invalidate("key")
    source.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await cache.get("key", source)


async def test_stale_age(memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]]) -> None:
    """The time that the failing load took counts for the age, and for the bound on it."""
    cache, source = make(memory, max_stale_s=30), Source()
    await cache.get("key", source)
    source.error = ValueError("no")
    for took, age in ((5, 25), (8, None)):
        clock.now += 20 if took == 5 else 0
        source.gate.clear()
        caller = asyncio.create_task(cache.get("key", source))
        await _until(lambda: any(flight.waiting for flight in cache._flights._flights.values()))
        clock.now += took
        source.gate.set()
        await asyncio.wait([caller], timeout=10)
        if age is not None:
            assert caller.result() == Cached("first", float(age), stale=True)
        else:
            assert isinstance(caller.exception(), ValueError)


async def test_refresh_at_the_end(memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]]) -> None:
    """A load that begins just before an entry's end is kept, though the entry ends meanwhile."""
    cache, source = make(memory, uniform=lambda: 1 - 2**-53), Source()

    async def load() -> Any:
        clock.now += 0.5
        return await source()

    await cache.get("key", load)
    clock.now += TTL_S * 0.89
    source.gate.clear()
    source.value = "second"
    await cache.get("key", load)
    await _until(lambda: source.loads == 2)
    clock.now += 5
    source.gate.set()
    await _quiet(cache)
    source.value = "third"
    assert (await cache.get("key", load)).value == "second"
    await cache.aclose()


async def test_refreshes_are_bounded(
    memory: MemoryStore, make: Callable[..., Cache[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number of loads in the background values are given as they are."""
    monkeypatch.setattr("observability.cache.flights.MAX_IN_BACKGROUND", 2)
    cache, source = make(memory, uniform=lambda: 1 - 2**-53), Source()
    source.gate.clear()
    for number in range(5):
        key = cache._key(str(number))
        version = (await memory.read(key, hold_s=10)).version
        await memory.put(key, version, Entry(b'"kept"', TTL_S, 1.0), life_s=60)
        assert (await cache.get(str(number), source)).value == "kept"
    assert len(cache._flights._tasks) == 2
    await cache.aclose()


async def test_load_timeout(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """A load that takes too long is an error like others."""
    cache, source = make(memory, load_timeout_s=0.01), Source()
    source.gate.clear()
    with pytest.raises(TimeoutError):
        await cache.get("key", source)


@pytest.mark.parametrize(("luck", "loads"), [(0.0, 1), (1 - 1e-12, 2)])
async def test_early_refresh(
    memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]], luck: float, loads: int
) -> None:
    """Near its end a value may be loaded anew in the background by chance, while callers get the one that is kept."""
    cache, source = make(memory, uniform=lambda: luck), Source()
    version = (await memory.read(cache._key("key"), hold_s=10)).version
    await memory.put(cache._key("key"), version, Entry(b'"kept"', TTL_S, 0.1), life_s=60)
    clock.now += TTL_S * 0.9
    await cache.get("other", source)
    source.gate.clear()
    for _ in range(10):
        assert (await cache.get("key", source)).value == "kept"
    await _until(lambda: source.loads == loads)
    source.gate.set()
    await _quiet(cache)
    assert (await cache.get("key", source)).value == ("kept" if loads == 1 else "first")


async def test_early_refresh_waits_for_its_time(
    memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]]
) -> None:
    """Far from its end a value whose load is quick is not loaded anew, by the worst luck that floating point has."""
    cache, source = make(memory, ttl_s=100.0, uniform=lambda: 1 - 2**-53), Source()
    version = (await memory.read(cache._key("key"), hold_s=10)).version
    await memory.put(cache._key("key"), version, Entry(b'"kept"', 100.0, 0.1), life_s=200)
    clock.now += 96
    await cache.get("key", source)
    assert not cache._flights._tasks
    clock.now += 1
    await cache.get("key", source)
    assert cache._flights._tasks
    await cache.aclose()


async def test_jitter(memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]]) -> None:
    """Values that were loaded together do not end together."""
    lucks = iter([0.0, 1.0])
    for key in ("a", "b"):
        cache = make(memory, uniform=lambda: next(lucks))
        await cache.get(key, Source())
    clock.now += TTL_S * 0.95
    source = Source("again")
    cache = make(memory)
    assert [(await cache.get(key, source)).value for key in ("a", "b")] == ["first", "again"]


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_anywhere(kind: Kind, make: Callable[..., Cache[Any]], steps: int) -> None:
    """Wherever a lone caller is cancelled, nothing goes on, nothing is held, and the next call works."""
    cache, source = make(kind.replica()), Source()
    caller = asyncio.create_task(cache.get("key", source))
    for _ in range(steps):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller], timeout=10)
    await _quiet(cache)
    assert not cache._flights._flights
    assert (await cache.get("key", source)).value == "first"


async def test_close(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """Closing ends the loads, and tells who waits for them."""
    cache, source = make(memory), Source()
    source.gate.clear()
    caller = asyncio.create_task(cache.get("key", source))
    await _until(lambda: source.loads == 1)
    await cache.aclose()
    with pytest.raises(LoadCancelledError):
        await caller
    with pytest.raises(RuntimeError, match="closed"):
        await cache.get("key", source)


async def test_unreadable_value(recorder: Recorder, memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """Bytes that the decoder refuses are no value: it is loaded anew, put in their place, and that is counted."""
    cache = make(memory)
    version = (await memory.read(cache._key("key"), hold_s=10)).version
    await memory.put(cache._key("key"), version, Entry(b"{", TTL_S, 0), life_s=60)
    source = Source()
    assert [(await cache.get("key", source)).value for _ in range(2)] == ["first", "first"]
    assert source.loads == 1
    (counted,) = recorder.metrics("service")[CACHE_STORE_ERRORS.name]
    assert (counted.value, counted.attributes) == (1, {"error.type": "JSONDecodeError"})


async def test_codec(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """A pair of functions may carry what JSON does not, and a miss gives what a hit will."""
    cache = make(
        memory, encode=lambda value: json.dumps(sorted(value)).encode(), decode=lambda kept: set(json.loads(kept))
    )
    assert [(await cache.get("key", Source({2, 1}))).value for _ in range(2)] == [{1, 2}, {1, 2}]
    with pytest.raises(TypeError, match="not JSON serializable"):
        await make(memory).get("set", Source({1}))


async def test_slow_put(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """Nobody waits for a store that takes its time to keep what was loaded."""
    store = FailingStore(memory)
    cache, source = make(store), Source()

    async def load() -> Any:
        store.gate.clear()
        return await source()

    assert (await cache.get("key", load)).value == "first"
    store.gate.set()
    assert (await cache.get("key", source)).value == "first"
    assert source.loads == 1
    await cache.aclose()


@pytest.mark.parametrize("options", [{"ttl_s": 0}, {"max_stale_s": -1}, {"load_timeout_s": 0}])
def test_wrong_times(memory: MemoryStore, make: Callable[..., Cache[Any]], options: dict[str, float]) -> None:
    """Times that make no sense are refused."""
    with pytest.raises(ValueError, match="positive"):
        make(memory, **options)


def test_wrong_name(memory: MemoryStore, telemetry: Telemetry) -> None:
    """A name with the character that ends it in keys is refused, since two caches could share a key."""
    with pytest.raises(ValueError, match="colon"):
        Cache("a:b", memory, telemetry, ttl_s=1)


async def test_names_apart(memory: MemoryStore, telemetry: Telemetry) -> None:
    """Two caches on one store do not see each other's values."""
    caches = [Cache[Any](name, memory, telemetry, ttl_s=1) for name in ("a", "b")]
    assert [(await cache.get("key", Source(n))).value for n, cache in enumerate(caches)] == [0, 1]


async def test_told(
    recorder: Recorder, telemetry: Telemetry, memory: MemoryStore, clock: Clock, make: Callable[..., Cache[Any]]
) -> None:
    """A load is a span of the trace that began it; a wait is one that links to it; a stale answer is an event."""
    cache, source = make(memory, max_stale_s=30), Source()
    tracer = telemetry.tracer_provider.get_tracer("test")

    async def request(name: str) -> None:
        with tracer.start_as_current_span(name, kind=SpanKind.SERVER):
            await cache.get("key", source)

    source.gate.clear()
    first = asyncio.create_task(request("first"))
    await _until(lambda: source.loads == 1)
    second = asyncio.create_task(request("second"))
    await _until(lambda: [flight.waiting for flight in cache._flights._flights.values()] == [2])
    source.gate.set()
    await asyncio.gather(first, second)
    await request("third")
    clock.now += 20
    source.error = OSError("no")
    await request("fourth")
    assert (
        recorder.tree()
        == """\
trace 1
  service SERVER first
    service INTERNAL things load

trace 2
  service SERVER second
    service INTERNAL things wait -> service things load

trace 3
  service SERVER third

trace 4
  service SERVER fourth
    service INTERNAL things load error.type=OSError ERROR OSError: no"""
    )
    (fourth,) = [span for span in recorder.spans if span.name == "fourth"]
    (event,) = fourth.events
    assert (event.name, dict(event.attributes or {})) == (
        CACHE_STALE,
        {"clearspan.cache.name": "things", "clearspan.cache.age": 20.0, "error.type": "OSError"},
    )
    metrics = recorder.metrics("service")
    counted = {point.attributes[CACHE_RESULT]: point.value for point in metrics[CACHE_REQUESTS.name]}
    assert counted == {"miss": 1, "wait": 1, "hit": 1, "stale": 1}
    loads = {point.attributes.get("error.type"): point.count for point in metrics[CACHE_LOAD_DURATION.name]}
    assert loads == {None: 1, "OSError": 1}


async def test_load_has_no_deadline(memory: MemoryStore, make: Callable[..., Cache[Any]]) -> None:
    """A load for all who wait is not bounded by the time of the one who came first."""
    seen: list[float] = []

    async def load() -> str:
        seen.append(current_deadline())
        return "value"

    token = deadline._deadline.set(5.0)
    try:
        await make(memory).get("key", load)
        assert current_deadline() == 5.0
    finally:
        deadline._deadline.reset(token)
    assert seen == [float("inf")]
