"""Processes killed at random moments while orders come in; afterwards the books have to be right."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from drills.books import SERVICES, Bookkeeper, Books, OrderEntry
from drills.processes import Shop, running_shop
from observability.events.nats.dead import dead_letters
from observability.jaeger import spans_of
from observability.telemetry import INBOX_EVENTS, INBOX_OUTCOME

SETTLE_S = 180.0
"""Longer than a relay's claim, a customer's key and the time after which an order is given up, one after the other."""

CUSTOMERS = 6

_DECLINED_CARD = "4000000000000002"
_UNSENT_US = 1_000_000
"""Spans that ended so shortly before a kill may have been lost with the process, in which they wait to be sent."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """What is killed, and how often.

    Attributes:
        name: What the shop runs on.
        servers: Whether that is PostgreSQL and NATS, which are killed too, or SQLite and HTTP.
        kills: How many there are.
        pause_s: Bounds of the time between one kill's end and the next, in seconds.
        killed: Who is, in turn; by default everything, each time in an order of chance.
        keys: The share of the customers that have an Idempotency-Key.
        asks: How often these ask before they give up, half a second apart; the others ask once.
        duplicates: Whether there are so many kills that events have to have been delivered twice.
    """

    name: str
    servers: bool
    kills: int
    pause_s: tuple[float, float] = (0.5, 3.0)
    killed: tuple[str, ...] = ()
    keys: float = 0.7
    asks: int = 40
    duplicates: bool = True


LONG = [Crashes("crashes on SQLite and HTTP", False, 30), Crashes("crashes on PostgreSQL and NATS", True, 30)]

# An order that nobody goes on with is given up after a minute and a half. So all customers have a key, and ask for
# longer than a killed request still holds their order; orders is killed first, so that this time is that of the others.
SHORT = [
    Crashes(
        "crashes on SQLite and HTTP",
        False,
        4,
        pause_s=(0.5, 1.0),
        killed=("orders", "shipping", "payments", "inventory"),
        keys=1.0,
        asks=100,
        duplicates=False,
    )
]


@dataclass
class Customers:
    """Orders that come in, and what their customers were told."""

    url: str
    keys: float
    asks: int
    accepted: dict[str, str] = field(default_factory=dict)
    """By their ids, the keys of the orders that were accepted, or what nobody else has in the place of one."""
    statuses: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def ordering(self) -> AsyncIterator[None]:
        """Order for as long as the block lasts; at its end what was begun is ended."""
        stop = asyncio.Event()
        async with httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False) as client:
            tasks = [asyncio.create_task(self._customer(client, stop)) for _ in range(CUSTOMERS)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*tasks)

    async def _customer(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._order(client)
            await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - not for secrets

    async def _order(self, client: httpx.AsyncClient) -> None:
        body = {"sku": "anvil" if _chance(0.1) else "mug", "quantity": 1}
        if _chance(0.1):
            body["card"] = _DECLINED_CARD
        key = {"idempotency-key": uuid.uuid4().hex} if _chance(self.keys) else {}
        for _ in range(self.asks if key else 1):
            status = None
            with suppress(httpx.HTTPError):
                answer = await client.post("/orders", json=body, headers=key)
                status = answer.status_code
            self.statuses[str(status or "none")] += 1
            if status == httpx.codes.CREATED:
                self.accepted[answer.json()["id"]] = key.get("idempotency-key", uuid.uuid4().hex)
            if status is not None and status < httpx.codes.INTERNAL_SERVER_ERROR and not _in_progress(answer):
                return
            await asyncio.sleep(0.5)


@dataclass(frozen=True, slots=True)
class CrashOutcome:
    """What became of it.

    Attributes:
        name: What the shop ran on.
        kills: How often each process was killed.
        accepted: Orders that customers were told of.
        statuses: What customers were answered, by status.
        books: What the databases say in the end.
        settled_s: Seconds until nothing was under way any more; None if that was not so within SETTLE_S.
        duplicates: Events that were delivered again, and had no effect.
        needs_duplicates: Whether there had to be some.
        dead_letters: Events that died in a consumer behind the broker.
        more_than_one: Orders that one Idempotency-Key led to, beyond the first.
        whole: Traces that are one tree from the request to the end of the order.
        torn: Traces with spans missing, of orders on their way when a service was killed.
        broken: What is wrong with traces of which nothing may be missing.
    """

    name: str
    kills: Counter[str]
    accepted: frozenset[str]
    statuses: Counter[str]
    books: Books
    settled_s: float | None
    duplicates: float
    needs_duplicates: bool
    dead_letters: int
    more_than_one: int
    whole: int
    torn: int
    broken: list[str]

    def failures(self) -> Iterator[str]:
        """Each thing that is asked of it and does not hold."""
        if self.settled_s is None:
            yield f"not settled within {SETTLE_S:g} s"
        yield from self.books.errors(self.accepted)
        if self.needs_duplicates and not self.duplicates:
            yield "no event was delivered twice, so that nothing was shown"
        if self.statuses["500"]:
            yield f"{self.statuses['500']} answers of 500"
        if self.dead_letters:
            yield f"{self.dead_letters} events died in a consumer"
        if self.more_than_one:
            yield f"{self.more_than_one} orders too many for their Idempotency-Keys"
        if self.whole < self.torn:
            yield f"only {self.whole} traces are whole, and {self.torn} miss spans"
        yield from self.broken[:5]

    def told(self) -> str:
        """In a few lines, for people."""
        counted = Counter(one.state for one in self.books.orders.values())
        states = ", ".join(f"{count} {state}" for state, count in counted.most_common())
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        answers = ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items()))
        settled = "never" if self.settled_s is None else f"{self.settled_s:.0f} s after the last order"
        return (
            f"killed: {kills}\nanswers: {answers}\n"
            f"orders: {len(self.accepted)} accepted; {states}\n"
            f"settled {settled}; {self.duplicates:.0f} events delivered again, without an effect; "
            f"{self.whole} traces whole, {self.torn} miss spans of a killed service"
        )


async def crash(crashes: Crashes, folder: Path, tell: Callable[[str], None]) -> CrashOutcome:
    """Run the shop, kill its processes, and look at the books.

    Args:
        crashes: What to kill.
        folder: For the services' data and what they write; it has to be empty.
        tell: Is told how far it is.
    """
    tell(f"{crashes.name}: starting the shop in {folder}")
    async with running_shop(folder, servers=crashes.servers) as shop:
        bookkeeper = Bookkeeper(folder, shop.members["postgresql"].url if crashes.servers else None)
        await bookkeeper.begin()
        customers = Customers(shop.url("orders"), crashes.keys, crashes.asks)
        mortal = [*crashes.killed] or [name for name in shop.members if name not in ("viewer", "redis")]
        kills: list[tuple[str, int]] = []
        async with customers.ordering():
            for number in range(crashes.kills):
                await asyncio.sleep(random.uniform(*crashes.pause_s))  # noqa: S311 - not for secrets
                # Each in turn: whatever the number, all have been killed about as often.
                if number % len(mortal) == 0 and not crashes.killed:
                    random.shuffle(mortal)
                name = mortal[number % len(mortal)]
                kills.append((name, time.time_ns() // 1000))
                await shop.members[name].kill()
                await shop.members[name].start()
                await shop.members[name].ready()
                tell(f"{number + 1}/{crashes.kills} {name} killed; {len(customers.accepted)} orders accepted")
            await asyncio.sleep(crashes.pause_s[1])
        tell("no more orders; waiting until all are in a final state")
        settled_s = await _settle(bookkeeper)
        books = await bookkeeper.books()
        for service in ("orders", "shipping"):
            await shop.metrics.fresh(service)
        whole, torn, broken = await _traces(shop, books, [at for name, at in kills if name in SERVICES])
        dead = 0
        if crashes.servers:
            async with dead_letters(shop.url("nats"), timeout_s=SETTLE_S) as letters:
                dead = len(await letters.found())
        return CrashOutcome(
            name=crashes.name,
            kills=Counter(name for name, _ in kills),
            accepted=frozenset(customers.accepted),
            statuses=customers.statuses,
            books=books,
            settled_s=settled_s,
            duplicates=sum(
                shop.metrics.sum(service, INBOX_EVENTS.name, **{INBOX_OUTCOME.replace(".", "__"): "duplicate"})
                for service in ("orders", "shipping")
            ),
            needs_duplicates=crashes.duplicates,
            dead_letters=dead,
            more_than_one=len(customers.accepted) - len(set(customers.accepted.values())),
            whole=whole,
            torn=torn,
            broken=broken,
        )


async def _settle(bookkeeper: Bookkeeper) -> float | None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + SETTLE_S:
        if (await bookkeeper.books()).settled:
            return loop.time() - began
        await asyncio.sleep(1.0)
    return None


async def _traces(shop: Shop, books: Books, kills: list[int]) -> tuple[int, int, list[str]]:
    """How many traces are whole, how many miss spans of a killed service, and what else is wrong with any."""
    whole, torn, broken = 0, 0, []
    async with httpx.AsyncClient(base_url=shop.url("viewer"), timeout=20, trust_env=False) as client:
        for order_id, entry in books.orders.items():
            if entry.state not in ("confirmed", "cancelled"):
                continue
            near = any(entry.began < at < entry.ended + _UNSENT_US for at in kills)
            answer = await client.get(f"/api/traces/{entry.trace_id}")
            wrong = _wrong(answer, entry)
            if wrong is not None and near:
                torn += 1
            elif wrong is not None:
                broken.append(f"the trace of order {order_id} {wrong}")
            else:
                whole += 1
    return whole, torn, broken


def _wrong(answer: httpx.Response, entry: OrderEntry) -> str | None:
    """Why a trace is not one tree from the request to the end of the order, or None."""
    if not answer.is_success:
        return "is not there"
    spans = spans_of(answer.json()["data"][0])
    known = {span.span_id for span in spans}
    roots = [f"{span.service} {span.name}" for span in spans if span.parent_id is None]
    if roots != ["orders POST /orders"]:
        return f"has these roots: {roots}"
    if any(span.parent_id is not None and span.parent_id not in known for span in spans):
        return "has spans without their parents"
    names = {f"{span.service} {span.name}" for span in spans}
    if (
        entry.state == "confirmed"
        and not {
            "shipping process order.placed",
            "orders process shipment.created",
        }
        <= names
    ):
        return "does not go on to the shipment"
    return None


def _chance(share: float) -> bool:
    return random.random() < share  # noqa: S311 - not for secrets


def _in_progress(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.CONFLICT and "retry-after" in answer.headers
