"""The business of orders, its neighbours faked."""

from __future__ import annotations

import asyncio
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
    """A request whose process died blocks its key for the lease, then its repetition completes the same order."""
    store, clock = FakeStore(), Clock()
    await store.claim("key", MUG.fingerprint(), "order-0", now=clock.now, lease_s=LEASE_S)
    inventory, payments = FakeInventory(reserved={"order-0"}), FakePayments(charged={"order-0": 200})
    survivor = _orders(inventory, payments, store, clock)
    with pytest.raises(InProgress):
        await survivor.place(MUG, "key")
    clock.now += LEASE_S * 1_000_000
    placed = await survivor.place(MUG, "key")
    assert placed.order.id == "order-0"
    assert (inventory.reserved, payments.charged) == ({"order-0"}, {"order-0": 200})


@pytest.mark.parametrize("cause", [asyncio.CancelledError(), RuntimeError("disk is full")], ids=["cancelled", "failed"])
async def test_cut_off(cause: BaseException) -> None:
    """A request that is cut off gives its key back at once, and its repetition goes on with the same order."""

    class CutOff(FakePayments):
        async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
            await super().charge(order_id, amount, currency, card)
            raise cause

    store, inventory, cut_off = FakeStore(), FakeInventory(), CutOff()
    with pytest.raises(type(cause)):
        await _orders(inventory, cut_off, store).place(MUG, "key")
    payments = FakePayments(charged=cut_off.charged)
    assert (await _orders(inventory, payments, store).place(MUG, "key")).order.id == "order-1"
    assert payments.charged == {"order-1": 200}


@pytest.mark.parametrize(("key", "kept"), [("key", {"order-1"}), (None, set())], ids=["key", "no key"])
async def test_unknown_payment(key: str | None, kept: set[str], caplog: pytest.LogCaptureFixture) -> None:
    """Goods whose payment is unknown stay for the request that comes again with its key; it is told as an error."""
    inventory = FakeInventory()
    with pytest.raises(DependencySlow):
        await _orders(inventory, FakePayments([DependencySlow("late")], late=True)).place(MUG, key)
    assert inventory.reserved == kept
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "payment unknown")]


async def test_payment_never_asked() -> None:
    """Goods whose payment was never asked for are given back, with a key too."""
    inventory = FakeInventory()
    with pytest.raises(DependencyFailed):
        await _orders(inventory, FakePayments([DependencyFailed("down", sent=False)])).place(MUG, "key")
    assert inventory.reserved == set()


async def test_replayed_refusals() -> None:
    """An answer that is given again says so, and a first one does not."""
    orders = _orders(FakeInventory(), FakePayments([PaymentDeclined("no")]))
    replayed = []
    for _ in range(3):
        with pytest.raises(PaymentDeclined) as caught:
            await orders.place(MUG, "key")
        replayed.append(caught.value.replayed)
    assert replayed[1:] == [True, True]


async def test_card_is_not_told() -> None:
    """Neither the text of a request nor its fingerprint depends on more of the card than its last four digits."""
    assert MUG.card not in repr(MUG)
    assert MUG.fingerprint() == OrderRequest("mug", 2, "5555555555554242").fingerprint()
