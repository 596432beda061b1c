"""The store's contract, held by the fake and the real one on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

import service.orders
from observability.database import create_engine, migrate
from service.errors import InProgress, KeyReused, NotFound, OutOfStock
from service.orders.orders import Order, Store
from service.orders.store import SqlStore
from tests.service.fakes import FakeStore

pytestmark = pytest.mark.anyio

ORDER = Order("order-1", 1, "mug", 2, 2500, "EUR")
LEASE_S = 30
LATER = LEASE_S * 1_000_000


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "fake":
        yield FakeStore()
        return
    engine = create_engine(empty_database(request.param))
    await migrate(engine, "orders", Path(service.orders.__file__).with_name("migrations"))
    yield SqlStore(engine)
    await engine.dispose()


async def test_get(store: Store) -> None:
    """An order comes back as it was kept, and an unknown one is not found."""
    assert await store.add(ORDER, None) == ORDER
    assert await store.get("order-1") == ORDER
    with pytest.raises(NotFound):
        await store.get("order-2")


async def test_page(store: Store) -> None:
    """Pages go from new to old, by id where the time is the same, and begin after the order named."""
    orders = [replace(ORDER, id=f"order-{n}", created_at=n // 2) for n in range(5)]
    for order in orders:
        await store.add(order, None)
    assert await store.page(2, None) == [orders[4], orders[3]]
    assert await store.page(9, "order-3") == [orders[2], orders[1], orders[0]]
    assert await store.page(9, "order-0") == []
    with pytest.raises(NotFound):
        await store.page(9, "order-9")


async def test_first_claim(store: Store) -> None:
    """The first claim gets its own id, the second has to wait, and another request may not have the key."""
    assert await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S) == "order-1"
    with pytest.raises(InProgress):
        await store.claim("key", "hash", "order-2", now=LATER - 1, lease_s=LEASE_S)
    with pytest.raises(KeyReused):
        await store.claim("key", "other", "order-2", now=LATER, lease_s=LEASE_S)


async def test_lease_ends(store: Store) -> None:
    """After the lease one request takes over the first one's order, under a lease of its own."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    assert await store.claim("key", "hash", "order-2", now=LATER, lease_s=LEASE_S) == "order-1"
    with pytest.raises(InProgress):
        await store.claim("key", "hash", "order-3", now=LATER + 1, lease_s=LEASE_S)


async def test_unclaim(store: Store) -> None:
    """An unclaimed key is taken over at once."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    await store.unclaim("key")
    assert await store.claim("key", "hash", "order-2", now=1, lease_s=LEASE_S) == "order-1"


async def test_key_of_kept_order(store: Store) -> None:
    """A key whose order is kept gives that order."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    await store.add(ORDER, "key")
    assert await store.claim("key", "hash", "order-2", now=1, lease_s=LEASE_S) == ORDER


async def test_key_of_refusal(store: Store) -> None:
    """A key that was refused gives the same refusal, with its text."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    await store.refuse("key", OutOfStock("Fewer than 2 are left."))
    with pytest.raises(OutOfStock, match=r"Fewer than 2 are left\."):
        await store.claim("key", "hash", "order-2", now=LATER, lease_s=LEASE_S)


async def test_late_refusal(store: Store) -> None:
    """A refusal, or a giving up, that comes after another request has placed the order changes nothing."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    await store.add(ORDER, "key")
    await store.refuse("key", OutOfStock("Fewer than 2 are left."))
    await store.unclaim("key")
    assert await store.claim("key", "hash", "order-2", now=LATER, lease_s=LEASE_S) == ORDER


async def test_concurrent_takeovers(store: Store) -> None:
    """Of many requests at once that find the lease at its end, one takes the work over."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    outcomes = await asyncio.gather(
        *(store.claim("key", "hash", f"order-{n}", now=LATER, lease_s=LEASE_S) for n in range(10)),
        return_exceptions=True,
    )
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == ["order-1"]
    assert sum(isinstance(outcome, InProgress) for outcome in outcomes) == 9


async def test_kept_twice(store: Store) -> None:
    """Of two requests that complete the same order both get the one that was kept first."""
    await store.claim("key", "hash", "order-1", now=0, lease_s=LEASE_S)
    await store.add(ORDER, "key")
    assert await store.add(replace(ORDER, created_at=2), "key") == ORDER


async def test_concurrent_claims(store: Store) -> None:
    """Of many first claims at once one gets the work."""
    outcomes = await asyncio.gather(
        *(store.claim("key", "hash", f"order-{n}", now=0, lease_s=LEASE_S) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InProgress) for outcome in outcomes) == 9
