"""`python -m benchmarks.events`: how fast events travel, on SQLite with HTTP and on PostgreSQL with NATS.

The relay and the consumer run in processes of their own, with telemetry whose spans are made and dropped. Told are

- events a second that the relay is rid of, of a full outbox;
- the same until the consumer has applied them, each in a transaction with its inbox;
- the time from a commit to the consumer's start, at twenty events a second;
- what it costs to take and settle events beside many that were sent before, as a multiple of the cost beside few.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from pydantic import AnyHttpUrl
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import Telemetry, observe, serve
from observability.database import create_engine
from observability.events.consumer import Consumer
from observability.events.endpoint import EventIntake
from observability.events.event import Event
from observability.events.exchange import Routes, exchange
from observability.events.inbox import Inbox, inbox_table
from observability.events.outbox import Outbox, outbox_table
from tests.nats_server import NatsServer
from tests.postgres import postgres_server

EVENTS, TIMED, TIMED_RATE = 5000, 400, 20.0
FEW, MANY, BATCH, ROUNDS = 1_000, 1_000_000, 100, 40
GOALS = {"SQLite and HTTP": 1000, "PostgreSQL and NATS": 2000}
GOAL_S, GOAL_RATIO = 0.05, 1.5

_TYPE, _TOKEN = "order.placed", "benchmark"
_applied = sa.Table(
    "applied",
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("after_s", sa.Float, nullable=False),
)


class _Dropped(SpanProcessor):
    """Spans are made and dropped: what exporting them costs is no matter of events."""

    def on_end(self, span: ReadableSpan) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Setting:
    """What events travel by: databases of the two services, the consumer's port, and the broker if there is one."""

    name: str
    orders: str
    shipping: str
    port: int
    broker: str | None = None

    def way(self) -> Routes | str:
        """As `exchange` takes it."""
        urls = {"shipping": AnyHttpUrl(f"http://127.0.0.1:{self.port}")}
        return self.broker or Routes(urls, {_TYPE: ["shipping"]}, _TOKEN)


def _telemetry(name: str) -> Telemetry:
    return Telemetry.build(name, span_processors=[_Dropped()])


def consume(setting: Setting, *, apply: bool) -> None:
    """The consumer's process: applies events, or only takes them, until it is ended."""
    telemetry = _telemetry("shipping")
    engine = create_engine(setting.shipping)
    inbox = Inbox(engine, "shipping", telemetry)

    async def take(event: Event) -> None:
        after_s = time.time() - json.loads(event.data)["at"]
        if apply:
            async with engine.begin() as connection:
                if await inbox.accept(connection, event):
                    await connection.execute(sa.insert(_applied), {"id": event.id, "after_s": after_s})

    consumer = Consumer("shipping", {_TYPE: take}, telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with exchange(Outbox(engine, "shipping", telemetry), inbox, consumer, telemetry, setting.way()):
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    observe(app, telemetry, events=EventIntake(consumer, _TOKEN))
    serve(app, host="127.0.0.1", port=setting.port)


@asynccontextmanager
async def _consumer(setting: Setting, *, apply: bool) -> AsyncIterator[None]:
    arguments = [setting.name, setting.orders, setting.shipping, str(setting.port), *filter(None, [setting.broker])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.events", "--consume", json.dumps([arguments, apply])
    )
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", setting.port)
                break
            except OSError:
                await asyncio.sleep(0.1)
        writer.close()
        yield
    finally:
        process.terminate()
        await process.wait()


async def _create(setting: Setting) -> None:
    for url, name in ((setting.orders, "orders"), (setting.shipping, "shipping")):
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            async with engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.execute("PRAGMA journal_mode=WAL")  # as the services' migrations do
        async with engine.begin() as connection:
            await connection.run_sync(outbox_table(name).create)
            await connection.run_sync(inbox_table(name).create)
            if name == "shipping":
                await connection.run_sync(_applied.create)
        await engine.dispose()


async def _add(outbox: Outbox, subjects: list[str]) -> None:
    async with outbox.engine.begin() as connection:
        for subject in subjects:
            await outbox.add(connection, Event(_TYPE, "/orders", subject, json.dumps({"at": time.time()}).encode()))


async def _count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(_applied))).scalar_one()


async def _until(engine: AsyncEngine, count: int) -> None:
    """Return when so many events have been applied."""
    while await _count(engine) < count:  # noqa: ASYNC110 - a database tells nobody
        await asyncio.sleep(0.05)


async def _rates(setting: Setting, *, apply: bool) -> tuple[float, float]:
    """Events a second that the relay is rid of, and that are applied."""
    telemetry = _telemetry("orders")
    async with _engines(setting) as (orders, shipping):
        outbox, inbox = Outbox(orders, "orders", telemetry), Inbox(orders, "orders", telemetry)
        before = await _count(shipping)
        for start in range(0, EVENTS, 500):
            await _add(outbox, [str(number) for number in range(start, start + 500)])
        async with _consumer(setting, apply=apply):
            began = time.perf_counter()
            nobody = Consumer("orders", {}, telemetry)
            async with exchange(outbox, inbox, nobody, telemetry, setting.way()):
                while (await outbox.backlog()).pending:  # noqa: ASYNC110 - a database tells nobody
                    await asyncio.sleep(0.05)
                delivered_s = time.perf_counter() - began
                if apply:
                    await _until(shipping, before + EVENTS)
                applied_s = time.perf_counter() - began
    return EVENTS / delivered_s, EVENTS / applied_s


async def _latencies(setting: Setting) -> list[float]:
    """Seconds from a commit to the consumer's start, at low load."""
    telemetry = _telemetry("orders")
    async with _engines(setting) as (orders, shipping), _consumer(setting, apply=True):
        outbox, inbox = Outbox(orders, "orders", telemetry), Inbox(orders, "orders", telemetry)
        async with exchange(outbox, inbox, Consumer("orders", {}, telemetry), telemetry, setting.way()):
            before = await _count(shipping)
            await _add(outbox, ["first"])  # over connections that are still to be made
            await _until(shipping, before + 1)
            # A stream that is this young is sent again what was sent before (see `NatsDelivery`): that is no low load.
            while (await outbox.backlog()).pending:  # noqa: ASYNC110 - a database tells nobody
                await asyncio.sleep(0.05)
            async with shipping.begin() as connection:
                await connection.execute(sa.delete(_applied))
            for number in range(TIMED):
                await _add(outbox, [f"timed-{number}"])
                await asyncio.sleep(1 / TIMED_RATE)
            await _until(shipping, TIMED)
        async with shipping.connect() as connection:
            return list((await connection.execute(sa.select(_applied.c.after_s))).scalars())


async def _flatness(url_of: dict[int, str]) -> float:
    """How many times the seconds beside few sent events it takes to take and settle a batch beside many.

    Both in turn, so that what else the machine does hits both alike.
    """
    telemetry = _telemetry("orders")
    took: dict[int, list[float]] = {FEW: [], MANY: []}
    async with AsyncExitStack() as stack:
        outboxes = {}
        for sent, url in url_of.items():
            engine = create_engine(url)
            stack.push_async_callback(engine.dispose)
            outboxes[sent] = Outbox(engine, "orders", telemetry)
            await _fill(outboxes[sent], sent)
        for number in range(ROUNDS):
            for sent, outbox in sorted(outboxes.items(), reverse=bool(number % 2)):
                await _add(outbox, [f"{number}-{one}" for one in range(BATCH)])
                began = time.perf_counter()
                claimed = await outbox.claim("relay", BATCH, lease_s=30)
                await outbox.sent("relay", [one.seq for one in claimed])
                took[sent].append(time.perf_counter() - began)
    return statistics.median(took[MANY]) / statistics.median(took[FEW])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


async def _fill(outbox: Outbox, sent: int) -> None:
    """Events that were sent before."""
    table = outbox_table("orders")
    row = {"type": _TYPE, "source": "/orders", "data": b'{"at": 0}', "time": 0, "added_at": 0, "waits_since": 0}
    row |= {"due_at": 0, "attempts": 0, "sent_at": int(time.time() * 1e6), "traceparent": f"00-{1:032x}-{1:016x}-01"}
    for start in range(0, sent, 10_000):
        async with outbox.engine.begin() as connection:
            rows = [
                row | {"id": f"sent-{number}", "subject": f"{number}"}
                for number in range(start, min(start + 10_000, sent))
            ]
            await connection.execute(sa.insert(table), rows)


@asynccontextmanager
async def _engines(setting: Setting) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    engines = create_engine(setting.orders), create_engine(setting.shipping)
    try:
        yield engines
    finally:
        for engine in engines:
            await engine.dispose()


async def main() -> int:
    """Print the figures; 1 if one is beyond its goal."""
    console = Console(highlight=False, soft_wrap=True)
    missed = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(postgres_server())
        urls = [stack.enter_context(postgres.database()) for _ in range(4)]
        nats = NatsServer(folder / "nats")
        nats.start()
        stack.callback(nats.kill)
        files = [f"sqlite+aiosqlite:///{folder / name}.db" for name in ("orders", "shipping", "few", "many")]
        for setting, few, many in (
            (Setting("SQLite and HTTP", files[0], files[1], _free_port()), files[2], files[3]),
            (Setting("PostgreSQL and NATS", urls[0], urls[1], _free_port(), nats.url), urls[2], urls[3]),
        ):
            await _create(setting)
            for url in (few, many):
                engine = create_engine(url)
                async with engine.begin() as connection:
                    await connection.run_sync(outbox_table("orders").create)
                await engine.dispose()
            delivered, _ = await _rates(setting, apply=False)
            _, applied = await _rates(setting, apply=True)
            latencies = await _latencies(setting)
            ratio = await _flatness({FEW: few, MANY: many})
            p50, p95 = statistics.median(latencies), statistics.quantiles(latencies, n=20)[-1]
            console.print(
                f"{setting.name}: {delivered:,.0f} events delivered a second (goal {GOALS[setting.name]:,}),"
                f" {applied:,.0f} applied;"
                f" commit to start p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms (goal {GOAL_S * 1e3:.0f});"
                f" beside {MANY:,} sent events {ratio:.2f} times the cost beside {FEW:,} (goal {GOAL_RATIO})"
            )
            missed += delivered < GOALS[setting.name] or p95 > GOAL_S or ratio > GOAL_RATIO
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--consume")
    if (given := parser.parse_args().consume) is not None:
        (name, orders, shipping, port, *broker), apply = json.loads(given)
        consume(Setting(name, orders, shipping, int(port), broker[0] if broker else None), apply=apply)
    else:
        sys.exit(asyncio.run(main()))
