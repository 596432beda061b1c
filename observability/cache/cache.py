"""Get a value, or load it: one load for all who wait, refreshed early, stale rather than an error."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from opentelemetry import trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link

from observability.cache.flights import Flight, Flights
from observability.cache.store import Entry, Found, Store
from observability.providers import Telemetry
from observability.telemetry import (
    CACHE_AGE,
    CACHE_LOAD_DURATION,
    CACHE_NAME,
    CACHE_REQUESTS,
    CACHE_RESULT,
    CACHE_STALE,
    CACHE_STORE_ERRORS,
)

T = TypeVar("T")

_LOAD_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Entries that were put together do not end together: each lives up to a tenth less than the time to live.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Cached(Generic[T]):
    """A value, and what is known of its age.

    Args:
        value: The value.
        age_s: How long ago it was loaded, in seconds; 0 when it was loaded for this call.
        stale: Whether it is past its time, and given only because the load failed.
    """

    value: T
    age_s: float
    stale: bool


def _to_json(value: Any) -> bytes:  # noqa: ANN401 - whatever json takes
    return json.dumps(value, separators=(",", ":")).encode()


class Cache(Generic[T]):
    """Values by key, each loaded when it is asked for and not kept, or too old.

    A key is loaded once at a time in this process, however many callers wait; they may be cancelled one by one, and
    when the last one is, the load is too. What a load raises reaches all who wait and is not kept; an answer such as
    "there is none" is a value. Each caller has a value of its own, decoded for it, so none can change another's.

    An entry is loaded anew in the background a little before its end, the sooner the longer its load takes: XFetch,
    from Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015. Past its
    end it is given only when the load fails: `stale-if-error` of RFC 5861.

    Args:
        name: Part of the keys in the store, and an attribute of the telemetry; without a colon.
        store: From `open_store`; several caches may share one. It is closed by whoever opened it.
        telemetry: The providers of the service.
        ttl_s: How old a value may be while loads work, in seconds.
        max_stale_s: How much older it may be when the load fails, in seconds.
        load_timeout_s: How long a load may take, in seconds.
        encode: Makes bytes of a value; by default JSON.
        decode: Makes a value of such bytes; whatever it raises means that they are no value, and it is loaded anew.
        clock: Seconds that never go back.
        uniform: Random numbers from 0 up to 1, without 1.

    Raises:
        ValueError: A colon in the name, or a time that is not positive.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        telemetry: Telemetry,
        *,
        ttl_s: float,
        max_stale_s: float = 0.0,
        load_timeout_s: float = 10.0,
        encode: Callable[[T], bytes] = _to_json,
        decode: Callable[[bytes], T] = json.loads,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        if not name or ":" in name:
            raise ValueError(f"{name!r} cannot name a cache: it is empty or has a colon")
        if not (ttl_s > 0 and max_stale_s >= 0 and load_timeout_s > 0):
            raise ValueError("ttl_s and load_timeout_s are positive, and max_stale_s is not negative")
        self._name = name
        self._store = store
        self._ttl_s = ttl_s
        self._max_stale_s = max_stale_s
        self._load_timeout_s = load_timeout_s
        self._encode = encode
        self._decode = decode
        self._clock = clock
        self._uniform = uniform
        self._flights = Flights()
        self._tracer = telemetry.tracer_provider.get_tracer("observability.cache")
        meter = telemetry.meter_provider.get_meter("observability.cache")
        self._requests = meter.create_counter(*CACHE_REQUESTS)
        self._loads = meter.create_histogram(*CACHE_LOAD_DURATION, explicit_bucket_boundaries_advisory=_LOAD_BUCKETS_S)
        self._errors = meter.create_counter(*CACHE_STORE_ERRORS)

    async def get(self, key: str, load: Callable[[], Awaitable[T]]) -> Cached[T]:
        """The value of a key: kept, or loaded, or if the load fails, stale.

        Args:
            key: What the value is of.
            load: Fetches the value. It runs in the context of the caller that began it, as a task of the cache.

        Raises:
            TimeoutError: The load took too long, and nothing is kept that may be given.
            LoadCancelledError: The load was cancelled by something else than its callers; likewise.
            Exception: What the load raised; likewise.
            RuntimeError: The cache is closed.
        """
        asked = self._clock()
        found = await self._store.read(self._key(key), hold_s=self._load_timeout_s)
        kept = self._kept(found)
        if kept is not None and not kept.stale:
            self._refresh_early(key, found, load)
            self._count("hit")
            return kept
        try:
            return await self._loaded(key, found.version, load)
        except Exception as error:
            age_s = found.age_s + self._clock() - asked
            if kept is None or found.entry is None or age_s > found.entry.fresh_s + self._max_stale_s:
                self._count("error")
                raise
            self._count("stale")
            told: dict[str, str | float] = {
                CACHE_NAME: self._name,
                CACHE_AGE: age_s,
                ERROR_TYPE: type(error).__qualname__,
            }
            trace.get_current_span().add_event(CACHE_STALE, told)
            return Cached(kept.value, age_s, stale=True)

    async def invalidate(self, key: str) -> None:
        """Forget a value, in every process that shares the store; call it after the change that the value is of.

        A load that has begun by now answers those who wait for it already, and is neither kept nor joined any more.
        """
        await self._store.delete(self._key(key))

    async def aclose(self) -> None:
        """Cancel the loads that run; who waits for one sees `LoadCancelledError`, or a stale value."""
        await self._flights.aclose()

    def _key(self, key: str) -> str:
        # The number is that of the entries' form.
        return f"clearspan:1:{self._name}:{key}"

    def _kept(self, found: Found) -> Cached[T] | None:
        if found.entry is None:
            return None
        try:
            value = self._decode(found.entry.value)
        except Exception as error:  # noqa: BLE001 - bytes that are no value, whatever the decoder calls it
            self._errors.add(1, {ERROR_TYPE: type(error).__qualname__})
            return None
        return Cached(value, found.age_s, stale=found.age_s >= found.entry.fresh_s)

    async def _loaded(self, key: str, version: str, load: Callable[[], Awaitable[T]]) -> Cached[T]:
        """The value from a load: one that runs for the same state of the key, or a new one."""
        of = (key, version)
        flight = self._flights.find(of)
        if flight is None:
            result = "miss"
            value = await self._flights.wait(of, self._begin(of, load, background=False))
        elif flight.landed.done():
            result = "hit"  # it is only still being put
            value = flight.landed.result()
        else:
            result = "wait"
            # The load belongs to another trace: here the wait has a span of its own, which links to it.
            with self._tracer.start_as_current_span(
                f"{self._name} wait",
                attributes={CACHE_NAME: self._name},
                links=[Link(flight.span.get_span_context())],
            ):
                value = await self._flights.wait(of, flight)
        self._count(result)
        return Cached(self._decode(value), 0.0, stale=False)

    def _begin(self, of: tuple[str, str], load: Callable[[], Awaitable[T]], *, background: bool) -> Flight:
        span = self._tracer.start_span(f"{self._name} load", attributes={CACHE_NAME: self._name})
        return self._flights.start(of, partial(self._fly, *of, load), span, background=background)

    async def _fly(self, key: str, version: str, load: Callable[[], Awaitable[T]], flight: Flight) -> None:
        """Load, tell those who wait, and only then let the store take its time."""
        attributes = {CACHE_NAME: self._name}
        began = self._clock()
        with trace.use_span(flight.span, end_on_exit=True):
            try:
                async with asyncio.timeout(self._load_timeout_s):
                    loaded = await load()
                value = self._encode(loaded)
            except BaseException as error:
                attributes[ERROR_TYPE] = type(error).__qualname__
                flight.span.set_attribute(ERROR_TYPE, attributes[ERROR_TYPE])
                raise
            finally:
                load_s = self._clock() - began
                self._loads.record(load_s, attributes)
        flight.landed.set_result(value)
        fresh_s = self._ttl_s * (1 - _JITTER * self._uniform())
        # Longer than it is of use, so that its version outlives a load that begins at its very end.
        life_s = fresh_s + self._max_stale_s + self._load_timeout_s
        await self._store.put(self._key(key), version, Entry(value, fresh_s, load_s), life_s=life_s)

    def _refresh_early(self, key: str, found: Found, load: Callable[[], Awaitable[T]]) -> None:
        """Begin a load in the background, by XFetch's chance."""
        entry, of = found.entry, (key, found.version)
        if entry is None or found.age_s - entry.load_s * math.log(1 - self._uniform()) < entry.fresh_s:
            return
        if self._flights.find(of) is None and not self._flights.full:
            self._begin(of, load, background=True)

    def _count(self, result: str) -> None:
        self._requests.add(1, {CACHE_NAME: self._name, CACHE_RESULT: result})
