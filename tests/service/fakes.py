"""The shop's neighbours and stores without a network or a database."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from observability.events.event import Event
from service.errors import Conflict, InProgress, KeyReused, NotFound, OutOfStock, ShopError
from service.inventory.inventory import Reservation, StockItem
from service.orders.events import event_of as order_event_of
from service.orders.order import Order, State
from service.orders.orders import Reserved
from service.payments.payments import Payment
from service.shipping.events import event_of as shipment_event_of
from service.shipping.shipping import Shipment


class FakeStock:
    """`service.inventory.inventory.Stock` in memory."""

    def __init__(self, items: list[StockItem]) -> None:
        self._items = {item.sku: item for item in items}
        self._reservations: dict[str, Reservation] = {}
        self._released: set[str] = set()
        self._refused: set[str] = set()

    async def items(self) -> list[StockItem]:
        return sorted(self._items.values(), key=lambda item: item.sku)

    async def item(self, sku: str) -> StockItem | None:
        return self._items.get(sku)

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        if (item := self._items.get(sku)) is None:
            raise NotFound("no such sku")
        if order_id in self._released and order_id not in self._refused:
            raise Conflict("released")
        wanted = Reservation(order_id, sku, quantity, item.unit_price * quantity, item.currency)
        if (existing := self._reservations.get(order_id)) is not None:
            if existing != wanted:
                raise Conflict("something else is reserved")
            return existing
        if item.available < quantity or order_id in self._refused:
            self._refused.add(order_id)
            raise OutOfStock("too few")
        self._items[sku] = replace(item, available=item.available - quantity)
        self._reservations[order_id] = wanted
        return wanted

    async def release(self, order_id: str) -> str | None:
        self._released.add(order_id)
        if (gone := self._reservations.pop(order_id, None)) is None:
            return None
        item = self._items[gone.sku]
        self._items[gone.sku] = replace(item, available=item.available + gone.quantity)
        return gone.sku


class FakeLedger:
    """`service.payments.payments.Ledger` in memory."""

    def __init__(self) -> None:
        self._payments: dict[str, Payment] = {}

    async def add(self, payment: Payment) -> Payment:
        if self._payments.setdefault(payment.order_id, payment) != payment:
            raise Conflict("charged otherwise, or refunded")
        return payment

    async def refund(self, order_id: str) -> Payment:
        payment = self._payments.setdefault(order_id, Payment.never(order_id))
        self._payments[order_id] = replace(payment, refunded=payment.refunded or payment.approved)
        return self._payments[order_id]

    async def get(self, order_id: str) -> Payment | None:
        return self._payments.get(order_id)


class FakeShipments:
    """`service.shipping.shipping.Store` in memory; `told` has the events that were kept."""

    def __init__(self) -> None:
        self._shipments: dict[str, Shipment] = {}
        self._applied: set[tuple[str, str]] = set()
        self.told: list[Event] = []

    async def add(self, shipment: Shipment, event: Event) -> bool:
        if (event.source, event.id) in self._applied:
            return False
        self._applied.add((event.source, event.id))
        self._shipments[shipment.order_id] = shipment
        self.told.append(shipment_event_of(shipment))
        return True

    async def get(self, order_id: str) -> Shipment | None:
        return self._shipments.get(order_id)


@dataclass
class _Kept:
    order: Order
    fingerprint: str
    leased_until: int
    refusal: ShopError | None = None


class FakeStore:
    """`service.orders.orders.Store` in memory; `told` has the events that were kept."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._keys: dict[str, str] = {}
        self._applied: set[tuple[str, str]] = set()
        self.told: list[Event] = []

    @property
    def orders(self) -> list[Order]:
        return [kept.order for kept in self._kept.values()]

    async def begin(self, order: Order, fingerprint: str, key: str | None, *, lease_s: int) -> Order:
        now, lease = order.created_at, order.created_at + lease_s * 1_000_000
        if key is None or key not in self._keys:
            self._kept[order.id] = _Kept(order, fingerprint, lease)
            if key is not None:
                self._keys[key] = order.id
            return order
        first = self._kept[self._keys[key]]
        if first.fingerprint != fingerprint:
            raise KeyReused("another request")
        if first.refusal is not None:
            raise first.refusal
        if first.order.was_placed:
            return first.order
        if first.order.state != "pending":
            raise Conflict("given up")
        if first.leased_until > now:
            raise InProgress("being worked on")
        first.leased_until = lease
        return first.order

    async def end_lease(self, order_id: str, now: int) -> None:
        if self._kept[order_id].order.state == "pending":
            self._kept[order_id].leased_until = now

    async def advance(self, order: Order, refusal: ShopError | None = None) -> bool:
        kept = self._kept[order.id]
        if kept.order.state != order.history[-2].state:
            return False
        kept.order, kept.refusal = order, refusal
        if (event := order_event_of(order)) is not None:
            self.told.append(event)
        return True

    async def apply(self, event: Event, order_id: str, state: State, *, at: int, reason: str | None = None) -> bool:
        order = await self.get(order_id)
        if (event.source, event.id) in self._applied:
            return False
        self._applied.add((event.source, event.id))
        return order.may_become(state) and await self.advance(order.to(state, at, reason), self._kept[order_id].refusal)

    async def abandon_expired(self, before: int, *, at: int, limit: int) -> list[str]:
        expired = [one for one in self._kept.values() if one.order.state == "pending" and one.leased_until < before]
        oldest = sorted(expired, key=lambda one: one.leased_until)[:limit]
        return [one.order.id for one in oldest if await self.advance(one.order.to("abandoned", at, "too late"))]

    async def get(self, order_id: str) -> Order:
        if (kept := self._kept.get(order_id)) is None:
            raise NotFound("no such order")
        return kept.order

    async def page(self, limit: int, after: str | None) -> list[Order]:
        orders = [kept.order for kept in self._kept.values()]
        newest = sorted(orders, key=lambda order: (order.created_at, order.id), reverse=True)
        if after is not None:
            newest = newest[newest.index(await self.get(after)) + 1 :]
        return newest[:limit]


@dataclass
class FakeInventory:
    """`service.orders.orders.Inventory`; each failure is raised once, after the effect where `late` says so.

    While `release_fails` is set, a release fails with it.
    """

    failures: list[ShopError] = field(default_factory=list)
    late: bool = False
    reserved: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    release_fails: ShopError | None = None

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:  # noqa: ARG002 - the Protocol's
        self.calls.append("reserve")
        if order_id in self.released:
            raise Conflict("released")
        failure = self.failures.pop() if self.failures else None
        if failure is None or self.late:
            self.reserved.add(order_id)
        if failure is not None:
            raise failure
        return Reserved(100 * quantity, "EUR")

    async def release(self, order_id: str) -> None:
        self.calls.append("release")
        if self.release_fails is not None:
            raise self.release_fails
        self.released.add(order_id)
        self.reserved.discard(order_id)


@dataclass
class FakePayments:
    """`service.orders.orders.Payments`; each failure is raised once, after the effect where `late` says so."""

    failures: list[ShopError] = field(default_factory=list)
    late: bool = False
    charged: dict[str, int] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:  # noqa: ARG002 - the Protocol's
        if order_id in self.refunded:
            raise Conflict("refunded")
        failure = self.failures.pop() if self.failures else None
        if failure is None or self.late:
            self.charged[order_id] = amount
        if failure is not None:
            raise failure

    async def refund(self, order_id: str) -> None:
        self.refunded.add(order_id)
        self.charged.pop(order_id, None)
