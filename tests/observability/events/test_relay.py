"""The relay, in virtual time, over a real outbox."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from observability.events import outbox as outbox_module
from observability.events.delivery import Refused, Unavailable
from observability.events.event import Event
from observability.events.outbox import Claimed, Outbox
from observability.events.relay import (
    BACKOFF_S,
    LEASE_S,
    MAX_ATTEMPTS,
    MAX_BACKOFF_S,
    MAX_PAUSE_S,
    POLL_S,
    SEND_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Relay,
)
from observability.providers import Telemetry
from observability.testing import Recorder
from tests.observability.events.conftest import an_event
from tests.observability.events.unthreaded import unthreaded_engine
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

Answer = Callable[[Event], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Leases, pauses and waits take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def _now() -> float:
    return asyncio.get_running_loop().time()


class TroubledOutbox(Outbox):
    """An outbox whose database may be down, or slow to give events out.

    Attributes:
        down: What fails: a `claim`, the `answer` to one, `settle`.
        claim_takes_s: How long the next claims take, one after the other.
        claims: How many claims there were.
        claimed_at: When each event was claimed for the last time.
    """

    down: Collection[str] = ()
    claims = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.claim_takes_s: list[float] = []
        self.claimed_at: dict[int, float] = {}
        self.before_claim: Callable[[str | None], None] = lambda _: None

    async def claim(
        self, relay: str, limit: int, *, lease_s: float, only: str | None = None, without: Collection[str] = ()
    ) -> list[Claimed]:
        self.claims += 1
        self.before_claim(only)
        await asyncio.sleep(0)
        self._fail("claim")
        start = _now()
        claimed = await super().claim(relay, limit, lease_s=lease_s, only=only, without=without)
        if claimed and self.claim_takes_s:
            await asyncio.sleep(self.claim_takes_s.pop(0))
        self._fail("answer")
        self.claimed_at |= dict.fromkeys((one.seq for one in claimed), start)
        return claimed

    async def _settle(self, relay: str, seqs: Sequence[int], **values: object) -> None:
        await asyncio.sleep(0)
        self._fail("settle")
        await super()._settle(relay, seqs, **values)

    def _fail(self, what: str) -> None:
        if what in self.down:
            raise OperationalError("", None, OSError("gone"))


class Post:
    """Delivers as it is told, and keeps what it was asked."""

    system = "test"

    def __init__(self, answer: Answer | None = None, max_in_flight: int = 32) -> None:
        self.answer = answer
        self.max_in_flight = max_in_flight
        self.asked: list[tuple[float, Event]] = []
        self.delivered: list[Event] = []
        self.under_way = 0
        self.most_under_way = 0

    async def send(self, event: Event) -> None:
        self.asked.append((_now(), event))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.answer is not None:
                await self.answer(event)
        finally:
            self.under_way -= 1
        self.delivered.append(event)

    @property
    def subjects(self) -> list[str]:
        return [event.subject for event in self.delivered]

    def times(self, type_: str = "order.placed") -> list[float]:
        return [time for time, event in self.asked if event.type == type_]


@pytest.fixture
def telemetry(recorder: Recorder) -> Telemetry:
    """The service's."""
    return recorder.telemetry("shop")


@pytest.fixture
async def outbox(
    tmp_path: Path, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TroubledOutbox]:
    """An empty outbox, by the loop's clock."""
    monkeypatch.setattr(outbox_module, "time", lambda: 1_800_000_000 + _now())
    engine = unthreaded_engine(tmp_path / "shop.db", "shop")
    yield TroubledOutbox(engine, "shop", telemetry)
    await engine.dispose()


async def _add(outbox: Outbox, *events: Event) -> list[Event]:
    async with outbox.engine.begin() as connection:
        return [await outbox.add(connection, event) for event in events]


async def _drained(outbox: Outbox) -> None:
    async with asyncio.timeout(3600):
        while (await outbox.backlog()).pending:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.5)


@asynccontextmanager
async def _relay(outbox: Outbox, post: Post, telemetry: Telemetry) -> AsyncIterator[Relay]:
    relay = Relay(outbox, post, telemetry)
    async with relay.running():
        yield relay


async def _a_second(_event: Event) -> None:
    await asyncio.sleep(1)


async def _for_ever(_event: Event) -> None:
    await asyncio.Event().wait()


def _raising(error: Exception) -> Answer:
    async def answer(_event: Event) -> None:
        raise error

    return answer


async def test_order(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """Events of a subject are delivered one after the other, in their order, and each once."""
    post = Post(_a_second)
    events = await _add(outbox, *(an_event("abc"[number % 3]) for number in range(30)))
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    for subject in "abc":
        assert [one.id for one in post.delivered if one.subject == subject] == [
            one.id for one in events if one.subject == subject
        ]
    assert len(post.delivered) == 30


async def test_subjects_beside_each_other(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """Events of different subjects do not wait for each other."""
    post = Post(_a_second)
    await _add(outbox, *(an_event(str(number)) for number in range(10)), an_event("0"))
    start = _now()
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert [time - start for time in post.times()] == pytest.approx([0.0] * 10 + [1.0], abs=0.1)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
async def test_in_flight(outbox: TroubledOutbox, telemetry: Telemetry, most: int) -> None:
    """No more events are under way than the delivery takes, and it need not wait for more."""
    post = Post(_a_second, most)
    await _add(outbox, *(an_event(str(number)) for number in range(3 * most)))
    start = _now()
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert post.most_under_way == most
    assert _now() - start < 3 * 1 + 1
    assert outbox.claims < 20


async def test_room_for_who_asks(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """Events that ask whether their type is taken again count among those that are under way."""

    async def down_at_first(event: Event) -> None:
        if event.type.startswith("down") and _now() < start + 20:
            raise Unavailable("nobody")
        await asyncio.sleep(1)

    post = Post(down_at_first, 2)
    start = _now()
    await _add(outbox, *(an_event(f"{type_} {n}", type=f"down.{type_}") for type_ in range(6) for n in range(2)))
    await _add(outbox, *(an_event(f"up {number}", type="up") for number in range(20)))
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert post.most_under_way == 2
    assert len(post.delivered) == 32


@pytest.mark.parametrize("most", [1, 4])
async def test_nothing_to_do_but_wait(outbox: TroubledOutbox, telemetry: Telemetry, most: int) -> None:
    """While there is no room for more, the database is left alone."""
    post = Post(_for_ever, most)
    await _add(outbox, *(an_event(str(number)) for number in range(2 * most)))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(SEND_TIMEOUT_S - 1)
        assert outbox.claims == 1


async def test_refused(outbox: TroubledOutbox, telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """A refused event is tried again after longer and longer waits, until it is dead; its subject waits with it."""
    bad, _, other = await _add(outbox, an_event("a"), an_event("a"), an_event("b"))

    async def refuse(event: Event) -> None:
        if event.id == bad.id:
            raise Refused("not this one")

    post = Post(refuse)
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(2100)
    assert [event.id for event in post.delivered] == [other.id]
    times = [time for time, event in post.asked if event.id == bad.id]
    assert len(times) == MAX_ATTEMPTS
    for attempt, (before, after) in enumerate(pairwise(times)):
        wait_s = min(BACKOFF_S * 2**attempt, MAX_BACKOFF_S)
        assert wait_s / 2 <= after - before <= wait_s + POLL_S + 0.1
    dead, waiting = await outbox.unsent(10)
    assert (dead.event.id, dead.dead, dead.attempts, dead.reason) == (bad.id, True, MAX_ATTEMPTS, "not this one")
    assert not waiting.dead
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.getMessage(), vars(record)["event_id"]) for record in errors] == [("event is dead", bad.id)]


async def test_refused_for_good(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """An event that can never be accepted is dead at once."""
    await _add(outbox, an_event())
    post = Post(_raising(Refused("never", final=True)))
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert len(post.asked) == 1
    assert [(one.dead, one.attempts) for one in await outbox.unsent(10)] == [(True, 1)]


async def test_unexpected_error(outbox: TroubledOutbox, telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """A delivery that fails as none should refuses this event, is told with its stack, and ends nothing else."""
    await _add(outbox, an_event("a"), an_event("b"))

    async def break_once(event: Event) -> None:
        if event.subject == "a" and len(post.asked) < 3:
            raise ZeroDivisionError

    post = Post(break_once)
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert sorted(post.subjects) == ["a", "b"]
    (told,) = (record for record in caplog.records if record.exc_info)
    assert told.getMessage() == "delivering an event failed"


async def test_unavailable(outbox: TroubledOutbox, telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """While nobody takes a type, one of its events asks at a time; other types flow; then all is delivered in order."""
    back = _now() + 60

    async def down_for_a_minute(event: Event) -> None:
        await asyncio.sleep(0.01)
        if event.type == "order.placed" and _now() < back:
            raise Unavailable("nobody there")

    post = Post(down_for_a_minute)
    placed = await _add(outbox, *(an_event(str(number % 20)) for number in range(60)))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(1)
        post.most_under_way = 0
        await _add(outbox, an_event("x", type="order.paid"))
        await asyncio.sleep(1)
        assert post.subjects == ["x"]
        await asyncio.sleep(50)
        assert post.most_under_way <= 2
        asked = post.times()
        waits = [after - before for before, after in pairwise(asked[32:])]
        assert max(waits) <= MAX_PAUSE_S + 0.2
        assert len([time for time in asked if time > back - 30]) <= 30 / (MAX_PAUSE_S / 2)
        await _drained(outbox)
    for subject in {event.subject for event in placed}:
        assert [one.id for one in post.delivered if one.subject == subject] == [
            one.id for one in placed if one.subject == subject
        ]
    assert _now() < back + MAX_PAUSE_S + 2
    assert [one.attempts for one in await outbox.unsent(10)] == []
    told = [record.getMessage() for record in caplog.records if "order.placed" in record.getMessage()]
    assert told == [
        "events of type order.placed wait: nobody there",
        "events of type order.placed are taken again",
    ]


async def test_pause_without_events(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """A pause ends when there is no event left that could ask."""
    (event,) = await _add(outbox, an_event())
    post = Post(_raising(Unavailable("nobody there")))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(1)
        while not await outbox.discard(event.id):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(MAX_PAUSE_S)
        post.answer = None
        await _add(outbox, an_event("later"))
        await asyncio.sleep(0.1)
        assert post.subjects == ["later"]


@pytest.mark.parametrize("trouble", ["fails", "is slow"])
async def test_asking_in_vain(outbox: TroubledOutbox, telemetry: Telemetry, trouble: str) -> None:
    """An event that was to ask and could not, since the database had trouble just then, is followed by others."""
    post = Post(_raising(Unavailable("nobody there")))
    troubles = iter(["at the next one who asks", "right after", "no more"])
    trouble_comes = next(troubles)

    def make_trouble(only: str | None) -> None:
        nonlocal trouble_comes
        outbox.down = []
        if trouble_comes == "right after":
            outbox.down = ["claim"] if trouble == "fails" else []
            trouble_comes = next(troubles)
        elif trouble_comes == "at the next one who asks" and only is not None and len(post.asked) >= 5:
            outbox.claim_takes_s = [LEASE_S - 1] if trouble == "is slow" else []
            trouble_comes = next(troubles)

    outbox.before_claim = make_trouble
    await _add(outbox, *(an_event(str(number)) for number in range(3)))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(2 * LEASE_S)
        post.answer = None
        await asyncio.sleep(2 * LEASE_S)
        assert trouble_comes == "no more"
        assert sorted(post.subjects) == ["0", "1", "2"]


async def test_hanging_delivery(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """A delivery that hangs ends by time, and counts as nobody being there; meanwhile others are delivered."""

    async def hang(event: Event) -> None:
        if event.type == "order.placed" and len(post.times()) == 1:
            await asyncio.Event().wait()

    post = Post(hang)
    await _add(outbox, an_event("a"), an_event("b", type="order.paid"))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(SEND_TIMEOUT_S - 0.1)
        assert post.subjects == ["b"]
        await asyncio.sleep(1)
        assert post.subjects == ["b", "a"]


async def test_no_delivery_outlasts_its_lease(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """What cannot be sent well before the lease is over is given back, and comes with a new one."""

    async def slow(event: Event) -> None:
        await asyncio.sleep(SEND_TIMEOUT_S - 1)
        assert _now() <= outbox.claimed_at[seqs[event.id]] + LEASE_S

    post = Post(slow)
    events = await _add(outbox, *(an_event("a") for _ in range(10)))
    seqs = {event.id: seq for seq, event in enumerate(events, 1)}
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    assert [event.id for event in post.delivered] == [event.id for event in events]


@pytest.mark.parametrize(
    ("down", "for_s"),
    [(["claim"], 5), (["answer"], 5), (["settle"], 5), (["claim", "settle"], 5), (["claim", "settle"], 4 * 3600)],
)
async def test_database_down(
    outbox: TroubledOutbox, telemetry: Telemetry, caplog: pytest.LogCaptureFixture, down: list[str], for_s: float
) -> None:
    """A database that fails for a while, or for hours, costs time and no event, and is told of once."""
    post = Post(_a_second)
    await _add(outbox, *(an_event(str(number % 5)) for number in range(20)))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(1.5)
        outbox.down = down
        await asyncio.sleep(for_s)
        outbox.down = []
        start = _now()
        await _drained(outbox)
        assert _now() - start < LEASE_S + 20
    assert {event.id for event in post.delivered} == {event.id for _, event in post.asked}
    assert len({event.id for event in post.delivered}) == 20
    told = [record for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert len(told) <= 1


async def test_told_late(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """What the outbox could not be told at once it is told later, and nothing is delivered twice for it."""
    post = Post()
    outbox.down = ["settle"]
    await _add(outbox, an_event("a"), an_event("b"))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(LEASE_S / 2)
        outbox.down = []
        await _drained(outbox)
    assert sorted(post.subjects) == ["a", "b"]


async def test_wakes(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """An event is delivered as soon as it is committed, without being looked for."""
    post = Post()
    async with _relay(outbox, post, telemetry) as relay:
        await asyncio.sleep(POLL_S * 1.5)
        committed = _now()
        await _add(outbox, an_event())
        await asyncio.sleep(0.001)
        assert post.times() == [committed]
        outbox._on_added.clear()
        await _add(outbox, an_event())
        relay.wake()
        await asyncio.sleep(0.001)
        assert len(post.asked) == 2


async def test_looks_anyway(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """An event of which nobody has told is found all the same."""
    post = Post()
    async with _relay(outbox, post, telemetry):
        outbox._on_added.clear()
        await _add(outbox, an_event())
        await asyncio.sleep(POLL_S + 0.1)
        assert len(post.delivered) == 1


async def test_idle(outbox: TroubledOutbox, telemetry: Telemetry, recorder: Recorder) -> None:
    """Minutes without events make no spans and no logs, and few claims."""
    recorder.clear()
    async with _relay(outbox, Post(), telemetry):
        await asyncio.sleep(600)
    assert recorder.spans == []
    assert recorder.logs == []
    assert outbox.claims <= 600 / POLL_S + 2


async def test_two_relays(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """Two relays share the work, keep the order of each subject, and deliver nothing twice."""
    order: list[Event] = []

    async def deliver(event: Event) -> None:
        await asyncio.sleep(0.5)
        order.append(event)

    posts = [Post(deliver, 4), Post(deliver, 4)]
    events = await _add(outbox, *(an_event(str(number % 10)) for number in range(100)))
    async with _relay(outbox, posts[0], telemetry), _relay(outbox, posts[1], telemetry):
        await _drained(outbox)
    assert all(len(post.delivered) > 20 for post in posts)
    assert max(Counter(event.id for event in order).values()) == 1
    for subject in map(str, range(10)):
        assert [one.id for one in order if one.subject == subject] == [
            one.id for one in events if one.subject == subject
        ]


async def test_stop(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """When the relay stops, what is under way may end and is told; the rest is given back, to be claimed at once."""
    post = Post(_a_second)
    await _add(outbox, an_event("a"), an_event("a"), an_event("b"))
    async with _relay(outbox, post, telemetry):
        await asyncio.sleep(0.5)
        stopped = _now()
    assert _now() - stopped < 1
    assert sorted(post.subjects) == ["a", "b"]
    assert [one.seq for one in await outbox.claim("other", 10, lease_s=LEASE_S)] == [2]


async def test_stop_while_a_delivery_hangs(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """A delivery that does not end is broken off when the relay stops, and its event is given back with the rest."""
    await _add(outbox, an_event("a"), an_event("a"), an_event("b"))
    async with _relay(outbox, Post(_for_ever), telemetry):
        await asyncio.sleep(0.5)
        stopped = _now()
    assert _now() - stopped <= STOP_TIMEOUT_S + 0.1
    assert [one.seq for one in await outbox.claim("other", 10, lease_s=LEASE_S)] == [1, 2, 3]


@pytest.mark.parametrize("answer", [_a_second, _for_ever])
async def test_stop_while_the_database_is_down(
    outbox: TroubledOutbox, telemetry: Telemetry, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    """A database that is down does not keep the relay from stopping; what it could not be told is delivered again."""
    await _add(outbox, an_event("a"), an_event("b"))
    async with _relay(outbox, Post(answer), telemetry):
        await asyncio.sleep(0.5)
        outbox.down = ["claim", "settle"]
        await asyncio.sleep(2)
        stopped = _now()
    assert _now() - stopped <= 2 * STOP_TIMEOUT_S
    assert "delivered again" in caplog.text
    outbox.down = []
    again = Post()
    async with _relay(outbox, again, telemetry):
        await _drained(outbox)
    assert sorted(again.subjects) == ["a", "b"]


async def test_cancelled_anywhere(outbox: TroubledOutbox, telemetry: Telemetry) -> None:
    """Cancelled at any moment, and again while it ends, the relay leaves nothing running and loses no event."""
    added: list[Event] = []
    delivered: set[str] = set()
    asked = count()

    async def deliver(event: Event) -> None:
        await asyncio.sleep(0)
        if next(asked) % 3 == 1:
            raise Unavailable("nobody there")
        delivered.add(event.id)

    async def run() -> None:
        async with _relay(outbox, Post(deliver), telemetry):
            await asyncio.Event().wait()

    for steps in range(40):
        added += await _add(outbox, an_event("a"), an_event("b"), an_event("b"))
        outbox.claim_takes_s = [0.0] * 3
        others = asyncio.all_tasks()
        task = asyncio.create_task(run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(steps % 7):
            await asyncio.sleep(0)
        task.cancel()
        _, late = await asyncio.wait({task}, timeout=2 * STOP_TIMEOUT_S)
        assert not late
        assert task.cancelled()
        await asyncio.sleep(STOP_TIMEOUT_S)
        assert asyncio.all_tasks() == others
    async with _relay(outbox, Post(deliver), telemetry):
        await _drained(outbox)
    assert {event.id for event in added} <= delivered


async def test_spans(outbox: TroubledOutbox, telemetry: Telemetry, recorder: Recorder) -> None:
    """Each attempt has a span, and so has the wait before it, all under the one in which the event came to be."""

    async def at_last(_event: Event) -> None:
        if len(post.asked) == 1:
            raise Refused("not now")
        if len(post.asked) == 2:
            raise Unavailable("nobody there")

    post = Post(at_last)
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span("request"):
        (event,) = await _add(outbox, an_event())
    async with _relay(outbox, post, telemetry):
        await _drained(outbox)
    shown = recorder.tree(attributes=["clearspan.event.attempt", "error.type"], logs=False)
    assert shown == "\n".join(
        [
            "trace 1",
            "  shop INTERNAL request",
            "    shop PRODUCER create order.placed",
            "      shop INTERNAL wait order.placed",
            "      shop CLIENT send order.placed error.type=Refused ERROR not now",
            "      shop INTERNAL wait order.placed",
            "      shop CLIENT send order.placed clearspan.event.attempt=2 error.type=Unavailable ERROR nobody there",
            "      shop INTERNAL wait order.placed",
            "      shop CLIENT send order.placed clearspan.event.attempt=2",
        ]
    )
    sent = next(span for span in reversed(recorder.spans) if span.name == "send order.placed")
    assert sent.attributes == {
        "messaging.system": "test",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order.placed",
        "messaging.message.id": event.id,
        "clearspan.event.attempt": 2,
    }
    assert not any(span.events for span in recorder.spans)
    counted = {
        point.attributes.get("error.type"): point.value
        for point in recorder.metrics("shop")["messaging.client.sent.messages"]
    }
    assert counted == {"Refused": 1, "Unavailable": 1, None: 1}


async def test_waits_of_what_was_added_without_a_trace(
    outbox: TroubledOutbox, telemetry: Telemetry, recorder: Recorder
) -> None:
    """An event that was added outside of any trace begins one."""
    await _add(outbox, an_event())
    async with _relay(outbox, Post(), telemetry):
        await _drained(outbox)
    assert [line.strip() for line in recorder.tree(attributes=[], logs=False).splitlines()] == [
        "trace 1",
        "shop PRODUCER create order.placed",
        "shop INTERNAL wait order.placed",
        "shop CLIENT send order.placed",
    ]
