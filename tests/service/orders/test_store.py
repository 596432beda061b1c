"""The store's contract, held by the fake and the real one on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

import service.orders
from observability import Telemetry
from observability.database import create_engine, migrate
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox
from service.errors import Conflict, InProgress, KeyReused, NotFound, OutOfStock
from service.events import SHIPMENT_CREATED, ShipmentCreated, about_order
from service.orders.order import Change, Order
from service.orders.orders import Store
from service.orders.store import SqlStore
from tests.service.fakes import FakeStore

pytestmark = pytest.mark.anyio

LEASE_S = 30
LATER = LEASE_S * 1_000_000


def _order(n: int = 1, at: int = 0) -> Order:
    return Order.new(f"order-{n}", "mug", 2, at=at)


ORDER = _order()
PLACED = ORDER.placed(2500, "EUR", 5)
SHIPPED = about_order(SHIPMENT_CREATED, "/shipping", "order-1", ShipmentCreated(sku="mug", quantity=2))


class Kept:
    """A store, and the types of the events that it has kept."""

    def __init__(self, store: Store, fake: FakeStore | None, outbox: Outbox | None) -> None:
        self.store = store
        self._fake = fake
        self._outbox = outbox

    async def told(self) -> list[tuple[str, str]]:
        """Type and subject of each event, in their order."""
        events = [] if self._fake is None else self._fake.told
        if self._outbox is not None:
            events = [stored.event for stored in await self._outbox.unsent(1000)]
        return [(event.type, event.subject) for event in events]


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def kept(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> AsyncIterator[Kept]:
    """An empty store of each kind, with its events."""
    if request.param == "fake":
        fake = FakeStore()
        yield Kept(fake, fake, None)
        return
    engine = create_engine(empty_database(request.param))
    await migrate(engine, "orders", Path(service.orders.__file__).with_name("migrations"))
    telemetry = Telemetry.build("orders")
    outbox = Outbox(engine, "orders", telemetry)
    yield Kept(SqlStore(engine, outbox, Inbox(engine, "orders", telemetry)), None, outbox)
    await engine.dispose()


@pytest.fixture
def store(kept: Kept) -> Store:
    """The store alone."""
    return kept.store


async def test_get(store: Store) -> None:
    """An order comes back as it was kept, and an unknown one is not found."""
    assert await store.begin(ORDER, "hash", None, lease_s=LEASE_S) == ORDER
    assert await store.get("order-1") == ORDER
    with pytest.raises(NotFound):
        await store.get("order-2")


async def test_page(store: Store) -> None:
    """Pages go from new to old, by id where the time is the same, and begin after the order named."""
    orders = [_order(n, at=n // 2) for n in range(5)]
    for order in orders:
        await store.begin(order, "hash", None, lease_s=LEASE_S)
    assert await store.page(2, None) == [orders[4], orders[3]]
    assert await store.page(9, "order-3") == [orders[2], orders[1], orders[0]]
    assert await store.page(9, "order-0") == []
    with pytest.raises(NotFound):
        await store.page(9, "order-9")


async def test_first_request(store: Store) -> None:
    """The first request with a key works on its own order, the second waits, and another one may not have the key."""
    assert await store.begin(ORDER, "hash", "key", lease_s=LEASE_S) == ORDER
    with pytest.raises(InProgress):
        await store.begin(_order(2, LATER - 1), "hash", "key", lease_s=LEASE_S)
    with pytest.raises(KeyReused):
        await store.begin(_order(2, LATER), "other", "key", lease_s=LEASE_S)
    assert await store.page(9, None) == [ORDER]


async def test_lease_ends(store: Store) -> None:
    """After the lease one request takes over the first one's order, under a lease of its own."""
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    assert await store.begin(_order(2, LATER), "hash", "key", lease_s=LEASE_S) == ORDER
    with pytest.raises(InProgress):
        await store.begin(_order(3, LATER + 1), "hash", "key", lease_s=LEASE_S)


async def test_end_lease(store: Store) -> None:
    """An order whose lease was ended is taken over at once."""
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    await store.end_lease("order-1", 1)
    assert await store.begin(_order(2, 1), "hash", "key", lease_s=LEASE_S) == ORDER


async def test_placed(kept: Kept) -> None:
    """An order that is placed is told of, and is what its key leads to from then on, whatever becomes of it."""
    store = kept.store
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    assert await store.advance(PLACED)
    assert await kept.told() == [("order.placed", "order-1")]
    assert await store.begin(_order(2, 1), "hash", "key", lease_s=LEASE_S) == PLACED
    cancelled = PLACED.to("cancelled", 7, "no carrier")
    assert await store.advance(cancelled)
    assert await store.begin(_order(2, 1), "hash", "key", lease_s=LEASE_S) == cancelled


async def test_refused(kept: Kept) -> None:
    """A key whose order was refused gives the same refusal, with its text, and nothing is told."""
    store = kept.store
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    refusal = OutOfStock("Fewer than 2 are left.")
    assert await store.advance(ORDER.to("refused", 1, str(refusal)), refusal)
    with pytest.raises(OutOfStock, match=r"Fewer than 2 are left\."):
        await store.begin(_order(2, LATER), "hash", "key", lease_s=LEASE_S)
    assert await kept.told() == []


async def test_refused_and_given_up(kept: Kept) -> None:
    """A refusal whose order could not be undone at once is remembered, and the order told of until it is undone."""
    store = kept.store
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    abandoned = ORDER.to("abandoned", 1, "no")
    assert await store.advance(abandoned, OutOfStock("no"))
    assert await kept.told() == [("order.abandoned", "order-1")]
    assert await store.apply(SHIPPED, "order-1", "cancelled", at=2, reason="undone")
    with pytest.raises(OutOfStock, match="no"):
        await store.begin(_order(2, LATER), "hash", "key", lease_s=LEASE_S)


async def test_too_late(kept: Kept) -> None:
    """Of two who bring an order out of one state the first one does; the second changes and tells nothing."""
    store = kept.store
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    assert await store.advance(PLACED)
    assert not await store.advance(ORDER.to("abandoned", 6))
    assert not await store.advance(ORDER.to("refused", 6, "no"), OutOfStock("no"))
    assert not await store.advance(ORDER.placed(2500, "EUR", 7))
    await store.end_lease("order-1", 6)
    assert await store.get("order-1") == PLACED
    assert await kept.told() == [("order.placed", "order-1")]


async def test_applied_once(store: Store) -> None:
    """An event has its effect once, and brings the reason into the history."""
    await store.begin(ORDER, "hash", None, lease_s=LEASE_S)
    await store.advance(PLACED)
    outcomes = [await store.apply(SHIPPED, "order-1", "cancelled", at=at, reason="no carrier") for at in (7, 8)]
    assert outcomes == [True, False]
    order = await store.get("order-1")
    assert order.history == (Change("pending", 0), Change("placed", 5), Change("cancelled", 7, "no carrier"))
    assert (order.state, order.amount, order.currency) == ("cancelled", 2500, "EUR")


async def test_applied_at_once(store: Store) -> None:
    """Of many deliveries of an event at once one has an effect."""
    await store.begin(ORDER, "hash", None, lease_s=LEASE_S)
    await store.advance(PLACED)
    outcomes = await asyncio.gather(*(store.apply(SHIPPED, "order-1", "confirmed", at=7) for _ in range(10)))
    assert outcomes.count(True) == 1
    assert [change.state for change in (await store.get("order-1")).history] == ["pending", "placed", "confirmed"]


async def test_applied_in_a_wrong_state(store: Store) -> None:
    """An event whose state may not follow changes nothing and is done with; an unknown order's is not done with."""
    await store.begin(ORDER, "hash", None, lease_s=LEASE_S)
    assert not await store.apply(SHIPPED, "order-1", "confirmed", at=7)
    assert await store.get("order-1") == ORDER
    unknown = replace(SHIPPED, id="another")
    for _ in range(2):
        with pytest.raises(NotFound):
            await store.apply(unknown, "order-9", "confirmed", at=7)


async def test_expired(kept: Kept) -> None:
    """Pending orders whose lease ended before a time are abandoned, the oldest first; events and keys tell so."""
    store = kept.store
    for n in range(4):
        await store.begin(_order(n, at=n), "hash", f"key-{n}", lease_s=LEASE_S)
    await store.advance(_order(1, at=1).placed(2500, "EUR", 5))
    assert await store.abandon_expired(LATER + 3, at=LATER + 9, limit=1) == ["order-0"]
    assert await store.abandon_expired(LATER + 3, at=LATER + 9, limit=9) == ["order-2"]
    assert await store.abandon_expired(LATER + 3, at=LATER + 9, limit=9) == []
    states = [order.state for order in await store.page(9, None)]
    assert states == ["pending", "abandoned", "placed", "abandoned"]
    assert (await kept.told())[1:] == [("order.abandoned", "order-0"), ("order.abandoned", "order-2")]
    with pytest.raises(Conflict, match="given up"):
        await store.begin(_order(9, LATER + 10), "hash", "key-0", lease_s=LEASE_S)


async def test_sweeps_at_once(kept: Kept) -> None:
    """Of many sweeps at once one abandons each order, and each is told of once."""
    store = kept.store
    for n in range(10):
        await store.begin(_order(n, at=n), "hash", None, lease_s=LEASE_S)
    sweeps = await asyncio.gather(*(store.abandon_expired(LATER + 99, at=LATER, limit=99) for _ in range(4)))
    ids = [f"order-{n}" for n in range(10)]
    assert sorted(order_id for swept in sweeps for order_id in swept) == ids
    assert sorted(subject for _, subject in await kept.told()) == ids


@pytest.mark.parametrize("round_", range(5))
async def test_sweep_and_request_at_once(kept: Kept, round_: int) -> None:
    """A sweep and the request that places an order at the same time: one of them has its way, and is told of."""
    store = kept.store
    await store.begin(ORDER, "hash", None, lease_s=LEASE_S)

    async def place() -> bool:
        for _ in range(round_):
            await asyncio.sleep(0)
        return await store.advance(PLACED)

    swept, placed = await asyncio.gather(store.abandon_expired(LATER + 1, at=LATER, limit=9), place())
    assert (swept == ["order-1"]) is not placed
    assert await kept.told() == [("order.placed" if placed else "order.abandoned", "order-1")]


async def test_takeovers_at_once(store: Store) -> None:
    """Of many requests at once that find the lease at its end, one takes the work over."""
    await store.begin(ORDER, "hash", "key", lease_s=LEASE_S)
    outcomes = await asyncio.gather(
        *(store.begin(_order(n, LATER), "hash", "key", lease_s=LEASE_S) for n in range(10)), return_exceptions=True
    )
    assert [outcome for outcome in outcomes if isinstance(outcome, Order)] == [ORDER]
    assert sum(isinstance(outcome, InProgress) for outcome in outcomes) == 9


async def test_first_requests_at_once(store: Store) -> None:
    """Of many first requests at once with one key one gets the work, and there is one order."""
    outcomes = await asyncio.gather(
        *(store.begin(_order(n), "hash", "key", lease_s=LEASE_S) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Order) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InProgress) for outcome in outcomes) == 9
    assert len(await store.page(99, None)) == 1
