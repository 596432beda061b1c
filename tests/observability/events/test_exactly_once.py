"""From outbox to inbox: whatever happens in between, each committed event is applied once, and in order."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import sqlalchemy as sa
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from observability.events import outbox as outbox_module
from observability.events.event import Event
from observability.events.inbox import Inbox
from observability.events.outbox import Claimed, Outbox
from observability.providers import Telemetry
from tests.observability.events.conftest import an_event
from tests.observability.events.unthreaded import unthreaded_engine

LEASE_S = 30.0

_RELAYS = st.sampled_from(["one", "two"])
_SUBJECTS = st.sampled_from("ab")
_TYPES = st.sampled_from(["placed", "paid"])
_MOSTLY = st.sampled_from([True, True, True, False])
_Result = TypeVar("_Result")


@cache
def _telemetry() -> Telemetry:
    return Telemetry.build("shop")


class _CrashError(Exception):
    """The consumer's process ends before its commit."""


class ExactlyOnce(RuleBasedStateMachine):
    """Producers, two relays and a consumer, each of which may fail at any step, and a clock that only we move."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.now = 1_800_000_000.0
        self.stack.enter_context(mock.patch.object(outbox_module, "time", self._time))
        self.producer = unthreaded_engine(folder / "producer.db", "shop")
        self.consumer = unthreaded_engine(folder / "consumer.db", "shop")
        self.outbox = Outbox(self.producer, "shop", _telemetry())
        self.inbox = Inbox(self.consumer, "shop", _telemetry())
        self._run(self._make_effects())
        self.committed: dict[str, list[str]] = defaultdict(list)
        self.delivered: list[Event] = []
        self.hands: dict[str, list[Claimed]] = {"one": [], "two": []}
        self.leases: dict[tuple[str, int], float] = {}
        self.unacknowledged: dict[str, list[int]] = {"one": [], "two": []}

    def teardown(self) -> None:
        try:
            self._run(self._drain())
            self._check()
        finally:
            self._run(self.producer.dispose())
            self._run(self.consumer.dispose())
            self.stack.close()

    # What may happen

    @rule(events=st.lists(st.tuples(_SUBJECTS, _TYPES), min_size=1, max_size=3), commits=_MOSTLY)
    def add(self, events: list[tuple[str, str]], *, commits: bool) -> None:
        added = self._run(self._add([an_event(subject, type=type_) for subject, type_ in events], commits=commits))
        if commits:
            for event in added:
                self.committed[event.subject].append(event.id)

    @precondition(lambda self: self.committed)
    @rule(
        relay=_RELAYS, limit=st.integers(1, 4), only=st.none() | st.none() | _TYPES, without=st.sets(_TYPES, max_size=1)
    )
    def claim(self, relay: str, limit: int, only: str | None, without: set[str]) -> None:
        self.hands[relay] = self._live(relay)  # it has broken off what its lease did not last for
        claimed = self._run(self.outbox.claim(relay, limit, lease_s=LEASE_S, only=only, without=without))
        in_hands = [one for name in self.hands for one in self._live(name)]
        assert not {one.seq for one in claimed} & {one.seq for one in in_hands}, "two claims of one event"
        held = {one.event.subject for one in in_hands}
        assert not held & {one.event.subject for one in claimed}, "a later one, too soon"
        assert [one.seq for one in claimed] == sorted(one.seq for one in claimed)
        self.hands[relay] += claimed
        self.leases |= {(relay, one.seq): self.now + LEASE_S for one in claimed}

    @precondition(lambda self: any(self._live(relay) for relay in self.hands))
    @rule(data=st.data(), succeeds=_MOSTLY)
    def deliver(self, data: st.DataObject, *, succeeds: bool) -> None:
        relay = data.draw(st.sampled_from([relay for relay in self.hands if self._live(relay)]))
        first = data.draw(st.sampled_from(self._live(relay)))
        lane = [one for one in self._live(relay) if one.event.subject == first.event.subject]
        if self._run(self._consume(lane[0].event, crash=not succeeds)):
            self._drop(relay, lane[:1])
            self.unacknowledged[relay].append(lane[0].seq)
        else:
            self._drop(relay, lane)
            self._run(self.outbox.release(relay, [one.seq for one in lane], "nobody there"))

    @precondition(lambda self: any(self.unacknowledged.values()))
    @rule(lost=st.booleans())
    def acknowledge(self, *, lost: bool) -> None:
        for relay, seqs in self.unacknowledged.items():
            if not lost:
                self._run(self.outbox.sent(relay, seqs))
                # Also what it has claimed again since, of an earlier lease.
                self.hands[relay] = [one for one in self.hands[relay] if one.seq not in seqs]
            seqs.clear()

    @precondition(lambda self: any(self.hands.values()))
    @rule(data=st.data(), end=st.sampled_from(["refused", "dead", "given back", "crash"]))
    def do_not_deliver(self, data: st.DataObject, end: str) -> None:
        relay = data.draw(st.sampled_from([relay for relay, hands in self.hands.items() if hands]))
        first = data.draw(st.sampled_from(self.hands[relay]))
        lane = [one for one in self.hands[relay] if one.event.subject == first.event.subject]  # late or not
        self._drop(relay, lane)
        if end in ("refused", "dead"):
            again_in_s = LEASE_S / 2 if end == "refused" else None
            self._run(self.outbox.refused(relay, lane.pop(0), "not now", again_in_s=again_in_s))
        if end != "crash":
            self._run(self.outbox.release(relay, [one.seq for one in lane]))

    @precondition(lambda self: any(self._live(relay) for relay in self.hands))
    @rule()
    def time_passes(self) -> None:
        self.now += LEASE_S / 2

    @precondition(lambda self: any(self._live(relay) for relay in self.hands))
    @rule(data=st.data())
    def another_takes_over(self, data: st.DataObject) -> None:
        late = data.draw(st.sampled_from([relay for relay in self.hands if self._live(relay)]))
        self.now += LEASE_S
        self.claim(relay="one" if late == "two" else "two", limit=10, only=None, without=set())

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def network_delivers_again(self, data: st.DataObject) -> None:
        self._run(self._consume(data.draw(st.sampled_from(self.delivered))))

    @precondition(lambda self: self.delivered)
    @rule()
    def people_mend_and_tidy(self) -> None:
        self._run(self.outbox.retry())
        self._run(self.outbox.prune(10, retention_s=0))

    # What has to be

    @invariant()
    def in_order_and_no_more_than_once(self) -> None:
        for subject, applied in self._run(self._applied()).items():
            assert applied == self.committed[subject][: len(applied)]

    @invariant()
    def claims_are_kept(self) -> None:
        live = {one.seq: relay for relay in self.hands for one in self._live(relay)}
        if live:
            assert self._run(self._holders()).items() >= live.items(), "a claim that somebody else has ended"

    def _check(self) -> None:
        applied = self._run(self._applied())
        assert applied == {subject: ids for subject, ids in self.committed.items() if ids}
        assert self._run(self.outbox.backlog()).pending == 0
        assert self._run(self.outbox.unsent(10)) == []

    async def _drain(self) -> None:
        while await self.outbox.unsent(1):
            self.now += LEASE_S
            await self.outbox.retry()
            for one in await self.outbox.claim("last", 100, lease_s=LEASE_S):
                await self._consume(one.event)
                await self.outbox.sent("last", [one.seq])

    # The parts

    async def _make_effects(self) -> None:
        async with self.consumer.begin() as connection:
            await connection.execute(sa.text("CREATE TABLE effects (n INTEGER PRIMARY KEY, subject TEXT, id TEXT)"))

    async def _add(self, events: list[Event], *, commits: bool) -> list[Event]:
        async with self.producer.connect() as connection:
            added = [await self.outbox.add(connection, event) for event in events]
            await (connection.commit() if commits else connection.rollback())
        return added

    async def _consume(self, event: Event, *, crash: bool = False) -> bool:
        """Whether the event was applied, now or before."""
        with suppress(_CrashError):
            async with self.consumer.begin() as connection:
                if await self.inbox.accept(connection, event):
                    effect = sa.text("INSERT INTO effects (subject, id) VALUES (:subject, :id)")
                    await connection.execute(effect, {"subject": event.subject, "id": event.id})
                if crash:
                    raise _CrashError
            self.delivered.append(event)
            return True
        return False

    async def _applied(self) -> dict[str, list[str]]:
        applied: dict[str, list[str]] = defaultdict(list)
        async with self.consumer.connect() as connection:
            for subject, id_ in await connection.execute(sa.text("SELECT subject, id FROM effects ORDER BY n")):
                applied[subject].append(id_)
        return applied

    async def _holders(self) -> dict[int, str]:
        held = sa.text("SELECT seq, claimed_by FROM shop_outbox WHERE claimed_by IS NOT NULL AND sent_at IS NULL")
        async with self.producer.connect() as connection:
            return {seq: relay for seq, relay in await connection.execute(held)}  # noqa: C416 - these are rows

    def _time(self) -> float:
        return self.now

    def _live(self, relay: str) -> list[Claimed]:
        return [one for one in self.hands[relay] if self.now < self.leases[relay, one.seq]]

    def _drop(self, relay: str, lane: list[Claimed]) -> None:
        self.hands[relay] = [one for one in self.hands[relay] if one not in lane]

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self.runner.run(work)


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(
    max_examples=24,
    stateful_step_count=40,
    phases=set(Phase) - {Phase.shrink, Phase.explain},  # which would take longer than a test may
)
