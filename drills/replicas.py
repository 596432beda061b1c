"""Two replicas of a service that share one outbox, one of them killed now and then: order held, nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from drills.metrics import EXPORT_INTERVAL_S, Metrics
from drills.processes import Member, free_ports
from drills.replica import APPLIED, CONSUMER, COUNTERS, QUIET, SERVICE, SUBJECTS, TYPE, Setting
from drills.servers import postgresql_and_nats
from observability.database import create_engine, database_url
from observability.events.inbox import inbox_table
from observability.events.nats.binding import from_nats
from observability.events.nats.connection import NatsConnection
from observability.events.nats.streams import Streams
from observability.events.outbox import Outbox, outbox_table
from observability.events.relay import LEASE_S
from observability.launcher import development_environment
from observability.providers import Telemetry
from observability.telemetry import INBOX_EVENTS, INBOX_OUTCOME

SETTLE_S = 2 * LEASE_S
"""After the load: what a killed replica had claimed waits for the end of its lease, and what is behind it for that."""

FAIR = 0.2
"""The least share of the deliveries that each of two relays has to have had; one is away while it is started again."""

NAMES = ("orders-1", "orders-2")
_DELIVERED_S = 0.3
_KILL_TIMEOUT_S = 20.0
_READ_S = 10.0


@dataclass(frozen=True, slots=True)
class Replicas:
    """What runs, for how long, and how much comes in.

    Attributes:
        name: What it runs on.
        servers: Whether that is PostgreSQL and NATS, or SQLite and HTTP.
        rate: Events that are added a second, by both replicas together.
        seconds: How long they are.
        kills: How often a replica is killed in that time, each in turn.
    """

    name: str
    servers: bool
    rate: float
    seconds: float
    kills: int


LONG = [
    Replicas("two replicas on SQLite and HTTP", False, 150.0, 60.0, 2),
    Replicas("two replicas on PostgreSQL and NATS", True, 300.0, 60.0, 2),
]
SHORT = [Replicas("two replicas on SQLite and HTTP", False, 150.0, 6.0, 1)]


@dataclass(frozen=True, slots=True)
class ReplicasOutcome:
    """What became of it.

    Attributes:
        name: What it ran on.
        committed: How many events of each subject were committed; they are numbered from 1.
        applied: The numbers that the consumer has applied, by subject, in the order in which it did.
        delivered: The numbers in the order in which the relays delivered them, by subject, each where it came first:
            as the stream has them, which promises no order to its consumers; over HTTP, where the delivery is the
            application, as they were applied.
        sent: How often each replica's relay has sent one; what it counts just before it is killed is lost. Over
            NATS that is more than there are, since a replica that starts within a minute of the stream's birth has all
            that was sent until then sent again.
        kills: How often each replica was killed.
        again: Events that were applied when the replica that had sent them was killed, and that were not settled: they
            are sent twice.
        duplicates: What came to the consumer again; JetStream leaves out what is sent twice by itself.
        dead: Events that nobody tries to deliver or to apply any more.
        settled_s: Seconds from the end of the load until all was applied; None if that was not so within SETTLE_S.
    """

    name: str
    committed: Mapping[str, int]
    applied: Mapping[str, Sequence[int]]
    delivered: Mapping[str, Sequence[int]]
    sent: Mapping[str, float]
    kills: Counter[str]
    again: int
    duplicates: float
    dead: int
    settled_s: float | None

    def failures(self) -> Iterator[str]:
        """Each thing that is asked of it and does not hold."""
        if self.settled_s is None:
            yield f"not settled within {SETTLE_S:g} s"
        committed = {(subject, number) for subject, last in self.committed.items() for number in range(1, last + 1)}
        applied = Counter((subject, number) for subject, numbers in self.applied.items() for number in numbers)
        if lost := sorted(committed - applied.keys()):
            yield f"{len(lost)} events were not applied, such as number {lost[0][1]} of {lost[0][0]}"
        if twice := sorted(event for event, count in applied.items() if count > 1):
            yield f"{len(twice)} events were applied twice, such as number {twice[0][1]} of {twice[0][0]}"
        if unknown := sorted(applied.keys() - committed):
            yield f"{len(unknown)} events were never committed, such as number {unknown[0][1]} of {unknown[0][0]}"
        if mixed := sorted(subject for subject, numbers in self.delivered.items() if list(numbers) != sorted(numbers)):
            yield f"the events of {len(mixed)} subjects were not delivered in their order, such as those of {mixed[0]}"
        for name, count in self.sent.items():
            if count < FAIR * sum(self.sent.values()):
                yield f"{name} has sent {count:.0f} events of {sum(self.sent.values()):.0f}"
        if self.dead:
            yield f"{self.dead} events are dead"
        if not self.again:
            yield "no event was sent twice, so that nothing was shown"

    def told(self) -> str:
        """In a few lines, for people."""
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        sent = ", ".join(f"{name} {count:.0f}" for name, count in sorted(self.sent.items()))
        settled = "never" if self.settled_s is None else f"{self.settled_s:.0f} s after the load"
        return (
            f"killed: {kills}\n"
            f"events: {sum(self.committed.values())} committed, of {len(self.committed)} subjects; "
            f"{sum(map(len, self.applied.values()))} applied; {self.dead} dead\n"
            f"sent by: {sent}\n"
            f"settled {settled}; {self.again} events delivered and not settled at a kill; "
            f"{self.duplicates:.0f} came to the consumer again, without an effect"
        )


async def replicate(replicas: Replicas, folder: Path, tell: Callable[[str], None]) -> ReplicasOutcome:
    """Run two replicas and a consumer, kill replicas, and look at what was applied.

    Args:
        replicas: What to run.
        folder: For databases and what the processes write; it has to be empty.
        tell: Is told how far it is.
    """
    tell(f"{replicas.name}: starting in {folder}")
    async with _running(replicas, folder) as running:
        kills: Counter[str] = Counter()
        again = 0
        for number in range(replicas.kills):
            await asyncio.sleep(replicas.seconds / (replicas.kills + 1))
            member = running.members[NAMES[number % 2]]
            again += await running.kill_amid_delivery(member)
            kills[member.name] += 1
            tell(f"{number + 1}/{replicas.kills} {member.name} killed; {again} events so far delivered and not settled")
            await member.start()
            await member.ready()
        await asyncio.sleep(replicas.seconds / (replicas.kills + 1))
        async with httpx.AsyncClient(trust_env=False, timeout=_READ_S) as client:
            for name in NAMES:
                (await client.post(f"{running.members[name].url}{QUIET}")).raise_for_status()
        tell("no more events; waiting until all are applied")
        settled_s = await running.settle()
        for name in (*NAMES, CONSUMER):
            await running.metrics.fresh(name)
        applied = await running.applied()
        delivered, dead = (applied, 0) if running.broker is None else await _stream(running.broker)
        return ReplicasOutcome(
            name=replicas.name,
            committed=await running.committed(),
            applied=applied,
            delivered=delivered,
            sent={name: running.metrics.sum(name, "messaging.client.sent.messages") for name in NAMES},
            kills=kills,
            again=again,
            duplicates=running.metrics.sum(
                CONSUMER, INBOX_EVENTS.name, **{INBOX_OUTCOME.replace(".", "__"): "duplicate"}
            ),
            dead=dead + (await running.outbox.backlog()).dead,
            settled_s=settled_s,
        )


@dataclass(frozen=True, slots=True)
class _Running:
    """The processes, what they count, and their databases, which the drill looks into."""

    members: Mapping[str, Member]
    metrics: Metrics
    outbox: Outbox
    effects: AsyncEngine
    broker: str | None

    async def kill_amid_delivery(self, member: Member) -> int:
        """Kill a replica at the worst moment: the consumer has its events, and the outbox does not know it yet.

        While nobody can write to the outbox, those that the replica has claimed are delivered but not settled.

        Returns:
            How many they were.
        """
        t = outbox_table(SERVICE)
        claimed = sa.select(t.c.id).where(t.c.sent_at.is_(None), t.c.claimed_by.like(f"%:{member.look().pid}:%"))
        async with asyncio.timeout(_KILL_TIMEOUT_S):
            while True:
                async with self.outbox.engine.begin() as connection:
                    await _lock(connection, t)
                    ids = (await connection.execute(claimed)).scalars().all()
                    if ids:
                        await asyncio.sleep(_DELIVERED_S)
                    if again := await self._count(APPLIED.c.event_id.in_(ids)):
                        await member.kill()
                        return again
                await asyncio.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - not for secrets

    async def settle(self) -> float | None:
        """Wait until all is applied; for how long, or None if that is never so."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + SETTLE_S:
            if not (await self.outbox.backlog()).pending:
                committed = sum((await self.committed()).values())
                if await self._count(sa.true()) >= committed:
                    return loop.time() - began
            await asyncio.sleep(0.5)
        return None

    async def committed(self) -> dict[str, int]:
        """How many events there are, by subject."""
        async with self.outbox.engine.connect() as connection:
            return {row.subject: row.number for row in await connection.execute(sa.select(COUNTERS))}

    async def applied(self) -> dict[str, list[int]]:
        """The numbers of those that were applied, by subject, in their order."""
        numbers: dict[str, list[int]] = {}
        async with self.effects.connect() as connection:
            for row in await connection.execute(sa.select(APPLIED).order_by(APPLIED.c.place)):
                numbers.setdefault(row.subject, []).append(row.number)
        return numbers

    async def _count(self, which: sa.ColumnElement[bool]) -> int:
        async with self.effects.connect() as connection:
            return (await connection.execute(sa.select(sa.func.count()).select_from(APPLIED).where(which))).scalar_one()


@asynccontextmanager
async def _running(replicas: Replicas, folder: Path) -> AsyncIterator[_Running]:
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        await stack.enter_async_context(metrics.receiving())
        url = broker = None
        if replicas.servers:
            backends = await stack.enter_async_context(postgresql_and_nats(folder))
            url, broker = backends["postgresql"].url, backends["nats"].url
        engines = {}
        for service in (SERVICE, CONSUMER):
            engines[service] = create_engine(database_url(service, folder, url), "drill")
            stack.push_async_callback(engines[service].dispose)
            await _create(engines[service], service)
        ports = dict(zip((CONSUMER, *NAMES), free_ports(3), strict=True))
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        environment = development_environment({}, "", folder, pretty=False) | {
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": metrics.url,
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": f"{EXPORT_INTERVAL_S * 1000:.0f}",
        }
        token = secrets.token_urlsafe()
        members = {}
        for name, port in ports.items():
            is_consumer = name == CONSUMER
            setting = Setting(
                port=port,
                database=database_url(CONSUMER if is_consumer else SERVICE, folder, url),
                rate=None if is_consumer else replicas.rate / len(NAMES),
                broker=broker,
                consumer_url=urls[CONSUMER],
                token=token,
            )
            log = folder / f"{name}.log"
            told = environment | {"OTEL_SERVICE_NAME": name}
            members[name] = Member(name, setting.command(), told, urls[name], "/readyz", log)
            stack.push_async_callback(members[name].stop)
            await members[name].start()
        for member in members.values():
            await member.ready()
        outbox = Outbox(engines[SERVICE], SERVICE, Telemetry.build("drill"))
        yield _Running(members, metrics, outbox, engines[CONSUMER], broker)


async def _create(engine: AsyncEngine, service: str) -> None:
    """Make the tables of a service, as its migrations would."""
    if engine.dialect.name == "sqlite":
        with sqlite3.connect(engine.url.database or "") as file:
            file.execute("PRAGMA journal_mode=WAL")
        file.close()
    tables = [outbox_table(service), inbox_table(service), COUNTERS if service == SERVICE else APPLIED]
    async with engine.begin() as connection:
        for table in tables:
            await connection.run_sync(table.create)
        if service == SERVICE:
            await connection.execute(sa.insert(COUNTERS), [{"subject": one, "number": 0} for one in SUBJECTS])


async def _lock(connection: AsyncConnection, table: sa.Table) -> None:
    """Let nobody else write to a table until the transaction's end; SQLite's has begun with that."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE MODE"))


async def _stream(broker: str) -> tuple[dict[str, list[int]], int]:
    """The numbers in the stream, by subject, each where it came first; and how many events are dead."""
    streams, numbers = Streams(), dict[str, list[int]]()
    ids = set()
    async with NatsConnection(broker, "drill") as connection:
        await connection.connected(_READ_S)
        jetstream = connection.jetstream
        reader = await jetstream.subscribe(streams.subject(TYPE), stream=streams.name, ordered_consumer=True)
        for _ in range((await jetstream.stream_info(streams.name)).state.messages):
            message = await reader.next_msg(_READ_S)
            event = from_nats(message.headers or {}, message.data)
            if event.id not in ids:
                ids.add(event.id)
                numbers.setdefault(event.subject, []).append(json.loads(event.data)["number"])
        return numbers, (await jetstream.stream_info(streams.dead_name)).state.messages
