"""The outbox, on both kinds of databases."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from observability import instrument_engine
from observability.events import outbox as outbox_module
from observability.events.event import Event
from observability.events.outbox import Backlog, Claimed, Outbox, outbox_table
from observability.testing import Recorder
from tests.observability.events.conftest import an_event

pytestmark = pytest.mark.anyio

LEASE_S = 30.0


class Clock:
    """The outbox's clock, which stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time as the outbox sees it."""
    clock = Clock()
    monkeypatch.setattr(outbox_module, "time", clock)
    return clock


@pytest.fixture
def outbox(engine: AsyncEngine, recorder: Recorder) -> Outbox:
    """An empty outbox in a database of each kind."""
    return Outbox(engine, "shop", recorder.telemetry("shop"))


async def _add(outbox: Outbox, *events: Event) -> list[Event]:
    async with outbox.engine.begin() as connection:
        return [await outbox.add(connection, event) for event in events]


async def _claim(
    outbox: Outbox, relay: str = "one", limit: int = 100, *, only: str | None = None, without: Collection[str] = ()
) -> list[Claimed]:
    return await outbox.claim(relay, limit, lease_s=LEASE_S, only=only, without=without)


def _subjects(claimed: list[Claimed]) -> list[str]:
    return [one.event.subject for one in claimed]


def _ids(claimed: list[Claimed]) -> list[str]:
    return [one.event.id for one in claimed]


async def test_claimed_as_it_was_added(outbox: Outbox) -> None:
    """What is claimed is what was added, to the microsecond and with the trace in which it was."""
    times = [datetime(2026, 1, 2, 3, 4, 5, microsecond, UTC) for microsecond in range(0, 1_000_000, 50_021)]
    added = await _add(outbox, *(Event("order.placed", "/shop", "Łódź %", b"\x00\xff", time=time) for time in times))
    claimed = await _claim(outbox)
    assert [one.event for one in claimed] == added
    assert [one.seq for one in claimed] == sorted(one.seq for one in claimed)
    assert {one.attempts for one in claimed} == {0}
    assert all(event.traceparent for event in added)


async def test_rolled_back(outbox: Outbox) -> None:
    """An event whose transaction is rolled back never was."""
    with suppress(ZeroDivisionError):
        async with outbox.engine.begin() as connection:
            await outbox.add(connection, an_event())
            raise ZeroDivisionError
    assert await _claim(outbox) == []
    assert await outbox.backlog() == Backlog(0, 0.0, 0)


async def test_session(outbox: Outbox) -> None:
    """A session's transaction will do as well."""
    async with AsyncSession(outbox.engine) as session, session.begin():
        await outbox.add(session, an_event("committed"))
    async with AsyncSession(outbox.engine) as session:
        await outbox.add(session, an_event("rolled back"))
    assert _subjects(await _claim(outbox)) == ["committed"]


async def test_unusual_tracestate(outbox: Outbox) -> None:
    """A trace whose state is longer than the outbox keeps does not keep an event from being added."""
    state = TraceState([(f"vendor{number}", "x" * 250) for number in range(8)])
    context = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    with trace.use_span(NonRecordingSpan(context)):
        (added,) = await _add(outbox, an_event())
    assert added.tracestate is None
    assert _ids(await _claim(outbox)) == [added.id]


async def test_told_on_commit(sqlite_engine: AsyncEngine, recorder: Recorder) -> None:
    """A process that shares a SQLite file with its relay wakes it with each commit, and with no rollback."""
    outbox = Outbox(sqlite_engine, "shop", recorder.telemetry("shop"))
    told: list[str] = []
    outbox.on_added(lambda: told.append("told"))
    async with sqlite_engine.connect() as connection:
        await outbox.add(connection, an_event())
        await connection.rollback()
        assert told == []
        await outbox.add(connection, an_event())
        await connection.commit()
    assert told == ["told"]


async def test_numbers_out_of_order(postgresql_engine: AsyncEngine, recorder: Recorder) -> None:
    """An event that got its number first and was committed last is not passed over."""
    outbox = Outbox(postgresql_engine, "shop", recorder.telemetry("shop"))
    async with postgresql_engine.connect() as first, postgresql_engine.connect() as second:
        await outbox.add(first, an_event("first", id="1"))
        await outbox.add(second, an_event("second", id="2"))
        await second.commit()
        early = await _claim(outbox)
        await outbox.sent("one", [one.seq for one in early])
        await first.commit()
        late = await _claim(outbox)
    assert _ids(early) == ["2"]
    assert _ids(late) == ["1"]
    assert late[0].seq < early[0].seq


async def test_order_of_commits(postgresql_engine: AsyncEngine, recorder: Recorder) -> None:
    """Of one subject, the event whose transaction commits first comes first, however the transactions overlap."""
    outbox = Outbox(postgresql_engine, "shop", recorder.telemetry("shop"))
    committed: list[str] = []

    async def place(number: int) -> None:
        async with postgresql_engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
            event = await outbox.add(connection, an_event("same"))
            for _ in range(number % 3):
                await connection.execute(sa.text("SELECT 1"))
            committed.append(event.id)  # before the commit, since the next one is let in by it
            await connection.commit()

    await asyncio.gather(*(place(number) for number in range(12)))
    assert _ids(await _claim(outbox)) == committed


async def test_other_subjects_do_not_wait(postgresql_engine: AsyncEngine, recorder: Recorder) -> None:
    """A transaction that is open holds up no other subject's, nor those that claim."""
    outbox = Outbox(postgresql_engine, "shop", recorder.telemetry("shop"))
    async with postgresql_engine.connect() as open_one:
        await outbox.add(open_one, an_event("open"))
        await _add(outbox, an_event("other"))
        assert _subjects(await _claim(outbox)) == ["other"]


async def test_claims_at_once(outbox: Outbox) -> None:
    """Relays that claim at the same time share the events: none is given to two of them, and none is left."""
    await _add(outbox, *(an_event(str(number)) for number in range(40)))
    shares = await asyncio.gather(*(_claim(outbox, f"relay {number}", 10) for number in range(6)))
    assert sorted(one.seq for share in shares for one in share) == list(range(1, 41))
    for share in shares:
        assert len(share) <= 10


async def test_lease(outbox: Outbox, clock: Clock) -> None:
    """What one relay has claimed another one gets when the lease is over, and not before."""
    (added,) = await _add(outbox, an_event())
    await _claim(outbox, "one")
    clock.now += LEASE_S - 0.001
    assert await _claim(outbox, "two") == []
    clock.now += 0.001
    assert _ids(await _claim(outbox, "two")) == [added.id]


async def test_late_word(outbox: Outbox, clock: Clock) -> None:
    """Whoever has lost a claim to another relay changes nothing any more, whatever it says."""
    await _add(outbox, an_event())
    (lost,) = await _claim(outbox, "one")
    clock.now += LEASE_S
    await _claim(outbox, "two")
    await outbox.sent("one", [lost.seq])
    await outbox.refused("one", lost, "late", again_in_s=None)
    await outbox.release("one", [lost.seq], "late")
    (stored,) = await outbox.unsent(10)
    assert (stored.attempts, stored.reason, stored.dead) == (0, None, False)
    assert await _claim(outbox, "three") == []
    await outbox.sent("two", [lost.seq])
    assert await outbox.unsent(10) == []


async def test_late_but_in_time(outbox: Outbox, clock: Clock) -> None:
    """Whoever comes late, and has lost its claim to nobody, is still believed."""
    await _add(outbox, an_event())
    (claimed,) = await _claim(outbox)
    clock.now += 10 * LEASE_S
    await outbox.sent("one", [claimed.seq])
    assert await _claim(outbox, "two") == []


async def test_sent_is_for_good(outbox: Outbox, clock: Clock) -> None:
    """What was delivered stays so, whatever its relay says later."""
    await _add(outbox, an_event())
    (claimed,) = await _claim(outbox)
    await outbox.sent("one", [claimed.seq])
    await outbox.release("one", [claimed.seq])
    await outbox.refused("one", claimed, "no", again_in_s=0)
    clock.now += 10 * LEASE_S
    assert await _claim(outbox) == []


async def test_order_of_a_subject(outbox: Outbox) -> None:
    """Events of a subject go to one relay, in their order; while it has some, no other one gets the next."""
    await _add(outbox, an_event("a"), an_event("b"), an_event("a"), an_event("a"))
    assert _subjects(await _claim(outbox, "one", 1)) == ["a"]
    assert _subjects(await _claim(outbox, "two")) == ["b"]
    claimed = await _claim(outbox, "one")
    assert claimed == []
    await outbox.sent("one", [1])
    assert [one.seq for one in await _claim(outbox, "three")] == [3, 4]


async def test_released(outbox: Outbox) -> None:
    """What is given back may be claimed again at once, as often as before; its reason is kept if there is one."""
    await _add(outbox, an_event("a"), an_event("b"))
    first = await _claim(outbox)
    await outbox.release("one", [first[0].seq])
    await outbox.release("one", [first[1].seq], "nobody there" + "!" * 1000)
    again = await _claim(outbox, "two")
    assert [one.seq for one in again] == [one.seq for one in first]
    assert [one.attempts for one in again] == [0, 0]
    assert again[0].waits_since == first[0].waits_since
    assert again[1].waits_since > first[1].waits_since
    assert [(one.reason or "")[:12] for one in await outbox.unsent(10)] == ["", "nobody there"]


async def test_refused(outbox: Outbox, clock: Clock) -> None:
    """A refused event waits, and so do the later ones of its subject, and no others."""
    await _add(outbox, an_event("a"), an_event("a"), an_event("b"))
    first, second, third = await _claim(outbox)
    await outbox.refused("one", first, "not now", again_in_s=5)
    await outbox.release("one", [second.seq, third.seq])
    assert _subjects(await _claim(outbox)) == ["b"]
    clock.now += 5
    again = await _claim(outbox)
    assert [one.seq for one in again] == [first.seq, second.seq]
    assert [one.attempts for one in again] == [1, 0]
    assert again[0].waits_since > first.waits_since


async def test_dead(outbox: Outbox, clock: Clock) -> None:
    """A dead event is not tried again, and holds up the later ones of its subject, and no others."""
    await _add(outbox, an_event("a"), an_event("a"), an_event("b"))
    first, second, third = await _claim(outbox)
    await outbox.refused("one", first, "never", again_in_s=None)
    await outbox.release("one", [second.seq, third.seq])
    clock.now += 10 * LEASE_S
    assert _subjects(await _claim(outbox)) == ["b"]
    stored = await outbox.unsent(10)
    assert [(one.event.subject, one.attempts, one.reason, one.dead) for one in stored] == [
        ("a", 1, "never", True),
        ("a", 0, None, False),
        ("b", 0, None, False),
    ]


async def _with_a_dead_one(outbox: Outbox) -> list[Event]:
    added = await _add(outbox, an_event("a"), an_event("a"))
    first, second = await _claim(outbox)
    await outbox.refused("one", first, "never", again_in_s=None)
    await outbox.release("one", [second.seq])
    return added


@pytest.mark.parametrize("by_id", [True, False])
async def test_retry(outbox: Outbox, *, by_id: bool) -> None:
    """A dead event that is to be tried again is, with all its attempts, and what has waited for it follows."""
    dead, waiting = await _with_a_dead_one(outbox)
    assert await outbox.retry(waiting.id) == 0
    assert await outbox.retry("unknown") == 0
    assert await outbox.retry(dead.id if by_id else None) == 1
    again = await _claim(outbox)
    assert _ids(again) == [dead.id, waiting.id]
    assert [one.attempts for one in again] == [0, 0]


async def test_retry_of_what_waits(outbox: Outbox) -> None:
    """An event that waits for its next attempt can be tried now."""
    (added,) = await _add(outbox, an_event())
    (claimed,) = await _claim(outbox)
    await outbox.refused("one", claimed, "not now", again_in_s=300)
    assert await outbox.retry() == 1
    assert _ids(await _claim(outbox)) == [added.id]


async def test_discard(outbox: Outbox) -> None:
    """An event that is discarded is gone, and what has waited for it follows."""
    dead, waiting = await _with_a_dead_one(outbox)
    assert await outbox.discard(dead.id) == 1
    assert await outbox.discard(dead.id) == 0
    assert _ids(await _claim(outbox)) == [waiting.id]


async def test_hands_off(outbox: Outbox, clock: Clock) -> None:
    """What a relay has in its hands, or has delivered, is neither retried nor discarded."""
    (added,) = await _add(outbox, an_event())
    (claimed,) = await _claim(outbox)
    await outbox.refused("one", claimed, "not now", again_in_s=0)
    (claimed,) = await _claim(outbox)
    assert await outbox.retry() == 0
    assert await outbox.discard(added.id) == 0
    await outbox.sent("one", [claimed.seq])
    clock.now += 10 * LEASE_S
    assert await outbox.retry() == 0
    assert await outbox.discard(added.id) == 0


async def test_types(outbox: Outbox) -> None:
    """Events are claimed of one type alone, or without some; those that are left out hold up their subjects."""
    await _add(
        outbox,
        an_event("a", type="paid"),
        an_event("a", type="placed"),
        an_event("b", type="placed"),
        an_event("c", type="shipped"),
        an_event("c", type="paid"),
    )
    assert [one.seq for one in await _claim(outbox, limit=1, only="placed")] == [3]
    assert await _claim(outbox, only="placed") == []
    assert [one.seq for one in await _claim(outbox, without=["paid", "placed"])] == [4]
    assert [one.seq for one in await _claim(outbox, without=["placed"])] == [1]
    await outbox.sent("one", [1, 4])
    assert [one.seq for one in await _claim(outbox)] == [2, 5]


async def test_limit(outbox: Outbox) -> None:
    """The oldest events come first, so many at most."""
    added = await _add(outbox, *(an_event(str(number)) for number in range(5)))
    assert _ids(await _claim(outbox, limit=2)) == [event.id for event in added[:2]]
    assert _ids(await _claim(outbox, limit=2)) == [event.id for event in added[2:4]]
    assert [one.event for one in await outbox.unsent(3)] == added[:3]


async def test_backlog(outbox: Outbox, clock: Clock) -> None:
    """The backlog counts what waits, claimed or not, and how long the oldest has; the dead stand apart."""
    await _add(outbox, an_event("a"))
    clock.now += 10
    await _add(outbox, an_event("b"), an_event("c"))
    clock.now += 5
    assert await outbox.backlog() == Backlog(3, 15.0, 0)
    first, second, _ = await _claim(outbox)
    await outbox.refused("one", first, "never", again_in_s=None)
    await outbox.sent("one", [second.seq])
    assert await outbox.backlog() == Backlog(1, 5.0, 1)


async def test_read_beside_a_writer(sqlite_engine: AsyncEngine, recorder: Recorder) -> None:
    """What is told about an outbox does not wait for a transaction that writes."""
    outbox = Outbox(sqlite_engine, "shop", recorder.telemetry("shop"))
    async with sqlite_engine.begin() as writer:
        await outbox.add(writer, an_event())
        assert await outbox.backlog() == Backlog(0, 0.0, 0)
        assert await outbox.unsent(10) == []


async def test_prune(outbox: Outbox, clock: Clock) -> None:
    """What was delivered long ago is deleted, a batch at a time; what waits or is dead is kept for ever."""
    await _add(outbox, *(an_event(str(number)) for number in range(7)))
    claimed = await _claim(outbox)
    await outbox.sent("one", [one.seq for one in claimed[:4]])
    await outbox.refused("one", claimed[5], "never", again_in_s=None)
    clock.now += 100
    await outbox.sent("one", [claimed[4].seq])
    assert await outbox.prune(10, retention_s=200) == 0
    assert [await outbox.prune(3, retention_s=50) for _ in range(3)] == [3, 1, 0]
    async with outbox.engine.connect() as connection:
        left = (await connection.execute(sa.text("SELECT seq FROM shop_outbox ORDER BY seq"))).scalars().all()
    assert list(left) == [one.seq for one in claimed[4:]]


async def test_two_outboxes_in_one_database(engine: AsyncEngine, recorder: Recorder) -> None:
    """Services that share a database each have their own outbox."""
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("other").create)
    shop, other = (Outbox(engine, name, recorder.telemetry(name)) for name in ("shop", "other"))
    await _add(shop, an_event("shop's"))
    assert await _claim(other) == []
    assert _subjects(await _claim(shop)) == ["shop's"]


async def test_telemetry(outbox: Outbox, recorder: Recorder) -> None:
    """An event that is added has a span, which is the event's own context; of claiming and settling there is none."""
    telemetry = recorder.telemetry("observed")
    instrument_engine(outbox.engine, telemetry)
    outbox = Outbox(outbox.engine, "shop", telemetry)
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span("request"):
        (added,) = await _add(outbox, an_event())
    recorded = [span for span in recorder.spans if span.name.startswith(("request", "create"))]
    create, request = recorded
    assert create.context is not None
    assert create.parent == request.context
    assert added.traceparent == f"00-{create.context.trace_id:032x}-{create.context.span_id:016x}-01"
    assert create.attributes == {
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": "order.placed",
        "messaging.message.id": added.id,
        "messaging.message.body.size": 2,
    }
    recorder.clear()
    (claimed,) = await _claim(outbox)
    await outbox.refused("one", claimed, "no", again_in_s=0)
    await outbox.release("one", [claimed.seq])
    await outbox.sent("one", [claimed.seq])
    await outbox.backlog()
    await outbox.prune(10)
    assert recorder.spans == []


_CLAIM_PLANS = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}


@pytest.mark.parametrize("analyzed", [True, False])
async def test_indexes_without_what_was_sent(outbox: Outbox, analyzed: bool) -> None:
    """What is asked all the time goes by the indexes without what was delivered, whatever is known of the table."""
    statements: list[tuple[str, object]] = []
    kind = outbox.engine.dialect.name
    t = sa.table("shop_outbox")
    async with outbox.engine.begin() as connection:
        await connection.execute(
            sa.insert(outbox._table),
            [
                {
                    **{name: str(number) for name in ("id", "type", "source", "subject")},
                    **dict.fromkeys(("time", "added_at", "waits_since", "due_at", "attempts"), 0),
                    "data": b"{}",
                    "sent_at": None if number >= 2900 else outbox_module._now() if number >= 10 else 0,
                }
                for number in range(3000)
            ],
        )
        if analyzed:
            await connection.execute(sa.text("ANALYZE shop_outbox" if kind == "postgresql" else "ANALYZE"))

    @sa.event.listens_for(outbox.engine.sync_engine, "before_cursor_execute")
    def keep(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if t.name in statement and not statement.startswith("EXPLAIN"):
            statements.append((statement, parameters))

    await _claim(outbox, limit=10)
    await _claim(outbox, limit=10, only="2950")
    await _claim(outbox, limit=10, without=["2950", "2951"])
    await outbox.prune(10)
    await outbox.backlog()
    plans: dict[str, list[str]] = {"earlier": [], "DELETE": [], "count": [], "UPDATE": []}
    async with outbox.engine.connect() as connection:
        for statement, parameters in statements:
            rows = await connection.exec_driver_sql(_CLAIM_PLANS[kind] + statement, parameters)  # type: ignore[arg-type]
            about = next(word for word in plans if word in statement)
            plans[about].append("\n".join(str(row) for row in rows))
    assert [len(found) for found in plans.values()] == [3, 1, 2, 3]
    for claim in plans["earlier"]:
        assert "shop_outbox_unsent" in claim
        assert "shop_outbox_subject" in claim
        assert "Seq Scan" not in claim
    for count in plans["count"]:  # to PostgreSQL both cost the same while it knows nothing of the table
        assert "shop_outbox_unsent" in count or "shop_outbox_subject" in count
    if analyzed:  # else PostgreSQL takes the table for a small one, which it reads from end to end for the other two
        assert "shop_outbox_sent" in plans["DELETE"][0]
        for plan in itertools.chain.from_iterable(plans.values()):
            assert "SCAN shop_outbox'" not in plan
            assert "Seq Scan" not in plan


async def test_migration(engine: AsyncEngine) -> None:
    """What `create` has made has the columns and indexes that the outbox relies on, with what each leaves out."""
    async with engine.connect() as connection:
        columns, indexes = await connection.run_sync(
            lambda sync: (sa.inspect(sync).get_columns("shop_outbox"), sa.inspect(sync).get_indexes("shop_outbox"))
        )
    table = outbox_table("shop")
    assert [(column["name"], column["nullable"]) for column in columns] == [
        (column.name, column.nullable) for column in table.columns
    ]
    found = {str(index["name"]): index for index in indexes}
    for index in table.indexes:
        dialect = engine.dialect.name
        assert [column.name for column in index.columns] == found[str(index.name)]["column_names"]
        where = str(found[str(index.name)]["dialect_options"][f"{dialect}_where"])
        assert ("IS NOT NULL" in where) is (index.name == "shop_outbox_sent")
    async with engine.begin() as connection:
        twice = sa.insert(table).values(
            **dict.fromkeys(("id", "type", "source", "subject"), "same"),
            **dict.fromkeys(("time", "added_at", "waits_since", "due_at", "attempts"), 0),
            data=b"",
        )
        await connection.execute(twice)
        with pytest.raises(sa.exc.IntegrityError):
            await connection.execute(twice)
