"""The business of orders, its neighbours faked."""

from __future__ import annotations

import itertools

import pytest

from service.errors import (
    DependencyFailed,
    DependencySlow,
    InProgress,
    KeyReused,
    OutOfStock,
    PaymentDeclined,
    ShopError,
)
from service.orders.orders import LEASE_S, OrderRequest, Orders
from service.payments.payments import DECLINED_CARD
from tests.service.fakes import FakeInventory, FakePayments, FakeStore

pytestmark = pytest.mark.anyio

MUG = OrderRequest("mug", 2, "4242424242424242")


class Clock:
    """Microseconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def _orders(
    inventory: FakeInventory, payments: FakePayments, store: FakeStore | None = None, clock: Clock | None = None
) -> Orders:
    ids = map("order-{}".format, itertools.count(1))
    return Orders(store or FakeStore(), inventory, payments, new_id=lambda: next(ids), now=clock or Clock())


async def test_placed() -> None:
    """A placed order has its goods, its money and its row."""
    inventory, payments = FakeInventory(), FakePayments()
    orders = _orders(inventory, payments)
    placed = await orders.place(MUG)
    assert (placed.replayed, placed.order.amount) == (False, 200)
    assert await orders.get(placed.order.id) == placed.order
    assert (inventory.reserved, payments.charged) == ({"order-1"}, {"order-1": 200})


async def test_declined() -> None:
    """A declined card gives the goods back and leaves no order."""
    inventory = FakeInventory()
    orders = _orders(inventory, FakePayments([PaymentDeclined("no")]))
    with pytest.raises(PaymentDeclined):
        await orders.place(MUG)
    assert inventory.reserved == set()
    assert await orders.page(10, None) == []


async def test_reserved_without_answer() -> None:
    """Goods that were set aside although inventory's answer was lost are given back."""
    inventory = FakeInventory([DependencySlow("late")], late=True)
    with pytest.raises(DependencySlow):
        await _orders(inventory, FakePayments()).place(MUG)
    assert inventory.reserved == set()


@pytest.mark.parametrize("failure", [OutOfStock("too few"), DependencyFailed("down", sent=False)])
async def test_nothing_to_release(failure: ShopError) -> None:
    """What was refused, or never asked for, is not given back."""
    inventory = FakeInventory([failure])
    with pytest.raises(type(failure)):
        await _orders(inventory, FakePayments()).place(MUG)
    assert inventory.calls == ["reserve"]


async def test_unknown_payment_settled_by_key() -> None:
    """A payment of unknown outcome becomes one order and one charge when the request comes again with its key."""
    inventory, payments = FakeInventory(), FakePayments([DependencySlow("late")], late=True)
    orders = _orders(inventory, payments)
    with pytest.raises(DependencySlow):
        await orders.place(MUG, "key")
    placed = await orders.place(MUG, "key")
    assert not placed.replayed
    assert (inventory.reserved, payments.charged) == ({"order-1"}, {"order-1": 200})


async def test_replay() -> None:
    """A repeated key gives the first order and does nothing more."""
    inventory = FakeInventory()
    orders = _orders(inventory, FakePayments())
    first = await orders.place(MUG, "key")
    again = await orders.place(MUG, "key")
    assert (again.order, again.replayed) == (first.order, True)
    assert inventory.calls == ["reserve"]


async def test_refusal_remembered() -> None:
    """A refusal is the answer of its key, though the same order would succeed now."""
    orders = _orders(FakeInventory([OutOfStock("too few")]), FakePayments())
    for _ in range(2):
        with pytest.raises(OutOfStock, match="too few"):
            await orders.place(MUG, "key")


@pytest.mark.parametrize(
    "other",
    [OrderRequest("cup", 2, MUG.card), OrderRequest("mug", 3, MUG.card), OrderRequest("mug", 2, DECLINED_CARD)],
    ids=["sku", "quantity", "card"],
)
async def test_key_of_another_request(other: OrderRequest) -> None:
    """A key belongs to one request."""
    orders = _orders(FakeInventory(), FakePayments())
    await orders.place(MUG, "key")
    with pytest.raises(KeyReused):
        await orders.place(other, "key")


async def test_resumed_after_crash() -> None:
    """A request that died at work blocks its key for the lease, then its repetition completes the same order."""

    class Killed(BaseException):
        """The process ends: nothing catches this."""

    class DyingPayments(FakePayments):
        async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
            await super().charge(order_id, amount, currency, card)
            raise Killed

    store, inventory, clock = FakeStore(), FakeInventory(), Clock()
    dying = DyingPayments()
    with pytest.raises(Killed):
        await _orders(inventory, dying, store, clock).place(MUG, "key")
    payments = FakePayments(charged=dying.charged)
    survivor = _orders(inventory, payments, store, clock)
    with pytest.raises(InProgress):
        await survivor.place(MUG, "key")
    clock.now += LEASE_S * 1_000_000
    placed = await survivor.place(MUG, "key")
    assert placed.order.id == "order-1"
    assert payments.charged == {"order-1": 200}


async def test_card_is_not_told() -> None:
    """Neither the text of a request nor its fingerprint depends on more of the card than its last four digits."""
    assert MUG.card not in repr(MUG)
    assert MUG.fingerprint() == OrderRequest("mug", 2, "5555555555554242").fingerprint()
