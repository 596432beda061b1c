"""The business of orders, its neighbours faked."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from service.errors import (
    Conflict,
    DependencyFailed,
    DependencySlow,
    InProgress,
    KeyReused,
    OutOfStock,
    PaymentDeclined,
    ShopError,
)
from service.orders.order import Order
from service.orders.orders import LEASE_S, OrderRequest, Orders, Placed, Reserved
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


async def test_durable_before_anything_is_done() -> None:
    """While goods and money are asked for, the order is there, as pending."""

    class Looking(FakeInventory):
        async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:
            assert (await store.get(order_id)).state == "pending"
            return await super().reserve(order_id, sku, quantity)

    store = FakeStore()
    assert (await _orders(Looking(), FakePayments(), store).place(MUG)).order.state == "placed"


async def test_declined() -> None:
    """A declined card gives the goods back, and the order says why it was refused."""
    inventory, store = FakeInventory(), FakeStore()
    with pytest.raises(PaymentDeclined):
        await _orders(inventory, FakePayments([PaymentDeclined("no")]), store).place(MUG)
    assert inventory.reserved == set()
    order = await store.get("order-1")
    assert (order.state, order.amount, order.history[-1].reason) == ("refused", None, "no")
    assert store.told == []


@pytest.mark.parametrize("key", ["key", None])
async def test_declined_without_release(key: str | None) -> None:
    """A refused order whose goods could not be given back at once is abandoned, and the answer is the refusal."""
    inventory, store = FakeInventory(release_fails=DependencyFailed("down", sent=False)), FakeStore()
    orders = _orders(inventory, FakePayments([PaymentDeclined("no")]), store)
    for _ in range(2 if key else 1):
        with pytest.raises(PaymentDeclined):
            await orders.place(MUG, key)
    assert [(event.type, event.subject) for event in store.told] == [("order.abandoned", "order-1")]


@pytest.mark.parametrize(
    ("inventory", "payments"),
    [
        (FakeInventory([DependencySlow("late")], late=True), FakePayments()),
        (FakeInventory(), FakePayments([DependencySlow("late")], late=True)),
    ],
    ids=["reservation", "payment"],
)
async def test_unknown_outcome(inventory: FakeInventory, payments: FakePayments) -> None:
    """An order without a key whose outcome is not known is abandoned at once, and told of."""
    store = FakeStore()
    with pytest.raises(DependencySlow):
        await _orders(inventory, payments, store).place(MUG)
    assert (await store.get("order-1")).state == "abandoned"
    assert [(event.type, event.subject) for event in store.told] == [("order.abandoned", "order-1")]


@pytest.mark.parametrize("failure", [OutOfStock("too few"), DependencyFailed("down", sent=False)])
async def test_nothing_to_release(failure: ShopError) -> None:
    """What was refused, or never asked for, is not given back."""
    inventory, store = FakeInventory([failure]), FakeStore()
    with pytest.raises(type(failure)):
        await _orders(inventory, FakePayments(), store).place(MUG)
    assert inventory.calls == ["reserve"]
    assert ((await store.get("order-1")).state, store.told) == ("refused", [])


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
    cut_off = Order.new("order-0", MUG.sku, MUG.quantity, at=clock.now)
    await store.begin(cut_off, MUG.fingerprint(), "key", lease_s=LEASE_S)
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


async def test_given_up_meanwhile() -> None:
    """A request that comes to its end after its order was given up is a conflict, with its key too."""
    store, clock = FakeStore(), Clock()

    class SweptMeanwhile(FakePayments):
        async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
            clock.now += (LEASE_S + 1) * 1_000_000
            assert await store.abandon_expired(clock.now, at=clock.now, limit=1) == [order_id]
            await super().charge(order_id, amount, currency, card)

    orders = _orders(FakeInventory(), SweptMeanwhile(), store, clock)
    for _ in range(2):
        with pytest.raises(Conflict, match="given up"):
            await orders.place(MUG, "key")
    assert [event.type for event in store.told] == ["order.abandoned"]


async def test_placed_meanwhile() -> None:
    """Of two requests with one key that both come to the end of the same order, both get the order, placed once."""
    store, inventory, clock = FakeStore(), FakeInventory(), Clock()

    class Overtaken(FakePayments):
        async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
            await super().charge(order_id, amount, currency, card)
            clock.now += LEASE_S * 1_000_000
            others.append(await _orders(inventory, payments, store, clock).place(MUG, "key"))

    payments, others = FakePayments(), list[Placed]()
    placed = await _orders(inventory, Overtaken(charged=payments.charged), store, clock).place(MUG, "key")
    assert [other.order for other in others] == [placed.order]
    assert [event.type for event in store.told] == ["order.placed"]


@pytest.mark.parametrize("kind", ["refunded", "released"])
async def test_late_request_of_an_abandoned_order(kind: str) -> None:
    """What was given back is not taken again by a request that comes late: the order is refused as a conflict."""
    inventory, payments = FakeInventory(), FakePayments()
    getattr(inventory if kind == "released" else payments, kind).add("order-1")
    with pytest.raises(Conflict):
        await _orders(inventory, payments).place(MUG)
    assert (inventory.reserved, payments.charged) == (set(), {})


async def test_charged_otherwise() -> None:
    """An order that an earlier request with its key has charged otherwise is abandoned, so that it is refunded."""
    inventory, store = FakeInventory(), FakeStore()
    payments = FakePayments([DependencySlow("late")], late=True)
    with pytest.raises(DependencySlow):
        await _orders(inventory, payments, store).place(MUG, "key")
    payments.failures.append(Conflict("charged with another amount or card"))
    for _ in range(2):
        with pytest.raises(Conflict):
            await _orders(inventory, payments, store).place(MUG, "key")
    assert [(event.type, event.subject) for event in store.told] == [("order.abandoned", "order-1")]


@pytest.mark.parametrize("sent", [True, False])
async def test_unknown_payment_with_a_key(sent: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Goods of an order with a key stay for the request that comes again with it; an unknown payment is an error."""
    inventory, store = FakeInventory(), FakeStore()
    with pytest.raises(DependencySlow):
        await _orders(inventory, FakePayments([DependencySlow("late", sent=sent)]), store).place(MUG, "key")
    assert inventory.reserved == {"order-1"}
    assert (await store.get("order-1")).state == "pending"
    logged = ("ERROR", "payment unknown") if sent else ("WARNING", "order refused")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [logged]


async def test_payment_never_asked() -> None:
    """Goods whose payment was never asked for are given back, where no key could go on with them."""
    inventory, store = FakeInventory(), FakeStore()
    with pytest.raises(DependencyFailed):
        await _orders(inventory, FakePayments([DependencyFailed("down", sent=False)]), store).place(MUG)
    assert (inventory.reserved, (await store.get("order-1")).state) == (set(), "refused")


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
