"""Random sequences of calls against a simple model of a cache."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from observability import Telemetry
from observability.cache import Cache
from observability.cache.memory import MemoryStore
from tests.observability.cache.fakes import Clock

TTL_S = 10
MAX_STALE_S = 20


@dataclass
class Model:
    """What should be answered: the value, its age and whether it is stale; None for an error."""

    value: int
    loaded: float

    def answer(self, now: float, *, works: bool) -> tuple[int, float, bool] | None:
        age = now - self.loaded
        if age < TTL_S:
            return self.value, age, False
        return (self.value, age, True) if not works and age <= TTL_S + MAX_STALE_S else None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["get", "invalidate"]), st.integers(0, 2)),
            st.tuples(st.just("wait"), st.integers(1, 15)),
            st.tuples(st.just("works"), st.booleans()),
        ),
        max_size=60,
    )
)
def test_as_modelled(steps: list[tuple[str, int]]) -> None:
    """Each call gets what was kept for its key, what a load gives now, or what is not too stale, and nothing else."""
    telemetry, clock = Telemetry.build("service"), Clock()
    works = True
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        if not works:
            raise OSError
        return loads

    async def run() -> None:
        nonlocal works
        store = MemoryStore(100, telemetry, clock=clock)
        cache = Cache[int](
            "things", store, telemetry, ttl_s=TTL_S, max_stale_s=MAX_STALE_S, clock=clock, uniform=lambda: 0.0
        )
        model: dict[str, Model] = {}
        for step, number in steps:
            key = str(number)
            match step:
                case "get":
                    kept = model[key].answer(clock.now, works=works) if key in model else None
                    before = loads
                    try:
                        answer = await cache.get(key, load)
                    except OSError:
                        assert kept is None
                        assert not works
                        continue
                    told = (answer.value, answer.age_s, answer.stale)
                    if kept is not None:
                        assert told == kept
                    else:
                        assert told == (before + 1, 0.0, False)
                        model[key] = Model(loads, clock.now)
                case "invalidate":
                    await cache.invalidate(key)
                    model.pop(key, None)
                case "wait":
                    clock.now += number
                case _:
                    works = bool(number)
        assert not cache._flights._tasks

    asyncio.run(run())
