"""The outbox: events kept in the transaction of the change that they tell of, until a relay has delivered them.

Nothing here looks for events after the last one seen: numbers follow the inserts and rows appear with the commits, so
such a look would miss some (https://event-driven.io/en/ordering_in_postgres_outbox/). A row is claimed for what it is,
and only if no earlier one of its subject is in another relay's hands, waits for its next attempt, or is dead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import Any

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from observability.database import for_reading
from observability.events.event import MAX_TRACESTATE, Event
from observability.events.telemetry import EventTelemetry
from observability.events.transaction import connection_of, on_commit
from observability.providers import Telemetry

RETENTION_S = 24 * 3600.0
"""How long delivered events are kept, in seconds, for whoever looks for them or has to send them again."""

_LOCK_SUBJECT = sa.text("SELECT pg_advisory_xact_lock(hashtext(:outbox), hashtext(:subject)), pg_notify(:outbox, '')")
_LOCK_CLAIMS = sa.text("SELECT pg_advisory_xact_lock(hashtext(:outbox))")
_NOTIFY = sa.text("SELECT pg_notify(:outbox, '')")


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that one relay has for itself for a while, and what is known of earlier attempts.

    Attributes:
        seq: Its number in the outbox.
        event: The event.
        attempts: How often it has been refused.
        waits_since: When it was added, or given back after an attempt; nanoseconds by the spans' clock.
    """

    seq: int
    event: Event
    attempts: int
    waits_since: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as the outbox shows it to people; times in microseconds since the epoch."""

    event: Event
    added_at: int
    attempts: int
    reason: str | None
    dead: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many events wait, how long the oldest has, and how many are dead."""

    pending: int
    oldest_s: float
    dead: int


class Outbox:
    """The outbox of one service.

    Args:
        engine: The service's database, SQLite or PostgreSQL.
        service_name: Names the table: `orders` has `orders_outbox`.
        telemetry: Has a span for each event that is added.
    """

    def __init__(self, engine: AsyncEngine, service_name: str, telemetry: Telemetry) -> None:
        self.engine = engine
        self.service_name = service_name
        self._table = outbox_table(service_name)
        self._telemetry = EventTelemetry(telemetry)
        self._postgresql = engine.dialect.name == "postgresql"
        self._on_added: list[Callable[[], None]] = []

    @property
    def channel(self) -> str:
        """The channel of PostgreSQL on which each commit of new events is told."""
        return self._table.name

    def on_added(self, told: Callable[[], None]) -> None:
        """Have a function called when this process commits new events to a database without channels.

        It is called just before the commit, so that whoever then claims events has to wait for it, as SQLite's writers
        wait for each other.
        """
        self._on_added.append(told)

    async def add(self, transaction: AsyncConnection | AsyncSession, event: Event) -> Event:
        """Keep an event in the caller's transaction: it is delivered if that commits, and never was if it does not.

        It gets the current trace, under a span of its own (`create order.placed`). On PostgreSQL, transactions that add
        events of one subject wait for each other, so that they are delivered in the order of the commits. Those that
        add events of several should do so in the same order, or two may come to wait for each other, and one fails.

        Returns:
            The event with its trace context.
        """
        connection = await connection_of(transaction)
        with self._telemetry.creating(event) as context:
            event = dataclasses.replace(
                event, traceparent=context.get("traceparent"), tracestate=context.get("tracestate")
            )
            row = {
                **{name: getattr(event, name) for name in _EVENT_COLUMNS},
                "time": _microseconds(event.time),
                "due_at": 0,
                "added_at": _now(),
                "waits_since": self._telemetry.now(),
                "attempts": 0,
            }
            if self._postgresql:
                with suppress_instrumentation():
                    await connection.execute(_LOCK_SUBJECT, {"outbox": self.channel, "subject": event.subject})
            await connection.execute(sa.insert(self._table), row)
        if not self._postgresql:
            for told in self._on_added:
                on_commit(connection, told)
        return event

    async def claim(
        self, relay: str, limit: int, *, lease_s: float, only: str | None = None, without: Collection[str] = ()
    ) -> list[Claimed]:
        """Take the next events for one relay, in their order.

        Args:
            relay: Who claims.
            limit: How many at most.
            lease_s: For how long, in seconds; then they may be claimed by another one.
            only: Events of this type alone.
            without: No events of these types.
        """
        t, earlier = self._table, self._table.alias("earlier")
        now = _now()
        blocks = sa.or_(earlier.c.died_at.is_not(None), earlier.c.due_at > now, _other_type(earlier, only, without))
        # A subquery for each row and not NOT EXISTS, which PostgreSQL makes a join of: whatever it knows of the table,
        # which changes from empty to full in a moment, this is one look into an index. So it is with two statements.
        before = (
            sa.select(sa.literal(1))
            .where(earlier.c.subject == t.c.subject, earlier.c.seq < t.c.seq, earlier.c.sent_at.is_(None), blocks)
            .limit(1)
            .scalar_subquery()
        )
        due = (
            sa.select(t)
            .where(t.c.sent_at.is_(None), t.c.died_at.is_(None), t.c.due_at <= now)
            .where(sa.not_(_other_type(t, only, without)), before.is_(None))
            .order_by(t.c.seq)
            .limit(limit)
            .with_for_update(of=t)
        )
        with suppress_instrumentation():
            async with self.engine.begin() as connection:
                if self._postgresql:  # as SQLite does by itself: one claim at a time, each sees what others took
                    await connection.execute(_LOCK_CLAIMS, {"outbox": self.channel})
                rows = (await connection.execute(due)).mappings().all()
                if rows:
                    claim = sa.update(t).where(t.c.seq.in_([row["seq"] for row in rows]))
                    await connection.execute(claim.values(claimed_by=relay, due_at=now + int(lease_s * 1_000_000)))
        return [_claimed(row) for row in rows]

    async def sent(self, relay: str, seqs: Sequence[int]) -> None:
        """Take note that events were delivered; those that another relay has claimed since are its own."""
        await self._settle(relay, seqs, sent_at=_now(), claimed_by=None, reason=None)

    async def release(self, relay: str, seqs: Sequence[int], reason: str | None = None) -> None:
        """Give events back as they are, to be claimed again at once.

        Args:
            relay: Who had claimed them.
            seqs: Their numbers.
            reason: Why they were not delivered, if that was tried.
        """
        values: dict[str, Any] = {"due_at": 0, "claimed_by": None}
        if reason is not None:
            values |= {"reason": reason[:_REASON], "waits_since": self._telemetry.now()}
        await self._settle(relay, seqs, **values)

    async def refused(self, relay: str, claimed: Claimed, reason: str, *, again_in_s: float | None) -> None:
        """Take note that an event was refused.

        Args:
            relay: Who had claimed it.
            claimed: The event.
            reason: Why.
            again_in_s: Seconds until the next attempt; None if there is none and the event is dead.
        """
        now = _now()
        await self._settle(
            relay,
            [claimed.seq],
            claimed_by=None,
            attempts=claimed.attempts + 1,
            reason=reason[:_REASON],
            waits_since=self._telemetry.now(),
            **({"died_at": now} if again_in_s is None else {"due_at": now + int(again_in_s * 1_000_000)}),
        )

    async def backlog(self) -> Backlog:
        """How much waits to be delivered, as the database tells it, whatever relays there are."""
        t = self._table
        waiting = sa.select(sa.func.count(), sa.func.min(t.c.added_at)).where(
            t.c.sent_at.is_(None), t.c.died_at.is_(None)
        )
        dead = sa.select(sa.func.count()).where(t.c.sent_at.is_(None), t.c.died_at.is_not(None))
        with suppress_instrumentation():
            async with for_reading(self.engine).connect() as connection:
                pending, oldest = (await connection.execute(waiting)).one()
                died = (await connection.execute(dead)).scalar_one()
        return Backlog(pending, (_now() - oldest) / 1e6 if pending else 0.0, died)

    async def unsent(self, limit: int) -> list[Stored]:
        """Events that wait or are dead, the oldest first."""
        t = self._table
        async with for_reading(self.engine).connect() as connection:
            rows = await connection.execute(sa.select(t).where(t.c.sent_at.is_(None)).order_by(t.c.seq).limit(limit))
            return [
                Stored(_event(row), row["added_at"], row["attempts"], row["reason"], row["died_at"] is not None)
                for row in rows.mappings()
            ]

    async def retry(self, event_id: str | None = None) -> int:
        """Let events that were refused, or the one of this id, be tried again now; how many there were."""
        again = sa.update(self._table).where(self._table.c.attempts > 0)
        return await self._mend(event_id, again.values(died_at=None, attempts=0, due_at=0))

    async def discard(self, event_id: str) -> int:
        """Delete an event, so that the later ones of its subject are delivered; how many there were: 1 or 0."""
        return await self._mend(event_id, sa.delete(self._table))

    async def send_again(self, since: float, until: float) -> int:
        """Let events that were sent between two times be sent again, since what had taken them has lost them.

        It covers what is still kept (RETENTION_S). Events that come a second time are the inbox's to leave out; those
        of a subject whose later ones are on their way may be overtaken by them.

        Args:
            since: The earlier time, in seconds since the epoch.
            until: The later one.

        Returns:
            How many they were.
        """
        t, count = self._table, 0
        lost = sa.select(t.c.seq).where(t.c.sent_at.between(int(since * 1_000_000), int(until * 1_000_000)))
        again = (
            sa.update(t)
            .where(t.c.seq.in_(lost.limit(_AGAIN_BATCH)))
            .values(sent_at=None, claimed_by=None, due_at=0, waits_since=self._telemetry.now())
        )
        while True:
            with suppress_instrumentation():
                async with self.engine.begin() as connection:
                    batch = (await connection.execute(again)).rowcount
                    if batch and self._postgresql:
                        await connection.execute(_NOTIFY, {"outbox": self.channel})
            count += batch
            if batch < _AGAIN_BATCH:
                return count

    async def prune(self, limit: int, *, retention_s: float = RETENTION_S) -> int:
        """Delete events, so many at most, that were delivered longer ago than they are kept.

        Returns:
            How many they were; `limit` if there may be more.
        """
        t = self._table
        old = sa.select(t.c.seq).where(t.c.sent_at < _now() - int(retention_s * 1_000_000)).limit(limit)
        with suppress_instrumentation():
            async with self.engine.begin() as connection:
                return (await connection.execute(sa.delete(t).where(t.c.seq.in_(old)))).rowcount

    async def _settle(self, relay: str, seqs: Sequence[int], **values: object) -> None:
        t = self._table
        mine = sa.update(t).where(t.c.seq.in_(seqs), t.c.claimed_by == relay, t.c.sent_at.is_(None)).values(values)
        with suppress_instrumentation():
            async with self.engine.begin() as connection:
                await connection.execute(mine)

    async def _mend(self, event_id: str | None, statement: Any) -> int:  # noqa: ANN401 - an update or a delete
        t = self._table
        in_nobodys_hands = sa.or_(t.c.claimed_by.is_(None), t.c.due_at <= _now())
        statement = statement.where(t.c.sent_at.is_(None), in_nobodys_hands)
        if event_id is not None:
            statement = statement.where(t.c.id == event_id)
        async with self.engine.begin() as connection:
            count: int = (await connection.execute(statement)).rowcount
            if count and self._postgresql:
                await connection.execute(_NOTIFY, {"outbox": self.channel})
        return count


_REASON = 500
_AGAIN_BATCH = 1000  # rows that one transaction changes, so that none is long
_EVENT_COLUMNS = ("id", "type", "source", "subject", "data", "traceparent", "tracestate")


def outbox_table(service_name: str) -> sa.Table:
    """The table of a service's outbox.

    A migration of the service's own makes it, by `outbox_table("orders").create(op.get_bind())`.
    """
    table = sa.Table(
        f"{service_name}_outbox",
        sa.MetaData(),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.String(255), nullable=False, unique=True),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("traceparent", sa.String(55)),
        sa.Column("tracestate", sa.String(MAX_TRACESTATE)),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("waits_since", sa.BigInteger, nullable=False),  # nanoseconds; all others are microseconds
        sa.Column("due_at", sa.BigInteger, nullable=False),  # later than now while it is claimed or waits
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(_REASON)),
        sa.Column("died_at", sa.BigInteger),
        sa.Column("sent_at", sa.BigInteger),
    )
    unsent, sent = table.c.sent_at.is_(None), table.c.sent_at.is_not(None)
    # Without the rows that were sent, however many are kept: what is asked of the others costs the same.
    for name, columns, rows in (
        ("unsent", (table.c.seq,), sa.and_(unsent, table.c.died_at.is_(None))),  # so, no use for a look by subject
        ("subject", (table.c.subject, table.c.seq), unsent),
        ("sent", (table.c.sent_at,), sent),
    ):
        sa.Index(f"{table.name}_{name}", *columns, sqlite_where=rows, postgresql_where=rows)
    return table


def _other_type(table: sa.FromClause, only: str | None, without: Collection[str]) -> sa.ColumnElement[bool]:
    return table.c.type != only if only is not None else table.c.type.in_(sorted(without))


def _claimed(row: Mapping[Any, Any]) -> Claimed:
    return Claimed(row["seq"], _event(row), row["attempts"], row["waits_since"])


def _event(row: Mapping[Any, Any]) -> Event:
    time = datetime.fromtimestamp(row["time"] / 1e6, UTC)
    return Event(**{name: row[name] for name in _EVENT_COLUMNS}, time=time)


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)  # all digits are there, the last one a little off


def _now() -> int:
    return int(time() * 1_000_000)
