"""The shop's neighbours and stores without a network or a database."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from service.errors import Conflict, InProgress, KeyReused, NotFound, OutOfStock, ShopError
from service.inventory.inventory import Reservation, StockItem
from service.orders.orders import Order, Reserved
from service.payments.payments import Payment


class FakeStock:
    """`service.inventory.inventory.Stock` in memory."""

    def __init__(self, items: list[StockItem]) -> None:
        self._items = {item.sku: item for item in items}
        self._reservations: dict[str, Reservation] = {}

    async def items(self) -> list[StockItem]:
        return sorted(self._items.values(), key=lambda item: item.sku)

    async def item(self, sku: str) -> StockItem | None:
        return self._items.get(sku)

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reservation:
        if (item := self._items.get(sku)) is None:
            raise NotFound("no such sku")
        wanted = Reservation(order_id, sku, quantity, item.unit_price * quantity, item.currency)
        if (existing := self._reservations.get(order_id)) is not None:
            if existing != wanted:
                raise Conflict("something else is reserved")
            return existing
        if item.available < quantity:
            raise OutOfStock("too few")
        self._items[sku] = replace(item, available=item.available - quantity)
        self._reservations[order_id] = wanted
        return wanted

    async def release(self, order_id: str) -> str | None:
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
            raise Conflict("charged otherwise")
        return payment

    async def get(self, order_id: str) -> Payment | None:
        return self._payments.get(order_id)


@dataclass
class _Key:
    fingerprint: str
    order_id: str
    leased_until: int
    outcome: Order | ShopError | None = None


class FakeStore:
    """`service.orders.orders.Store` in memory."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._keys: dict[str, _Key] = {}

    async def claim(self, key: str, fingerprint: str, order_id: str, *, now: int, lease_s: int) -> str | Order:
        lease = now + lease_s * 1_000_000
        if (known := self._keys.get(key)) is None:
            self._keys[key] = _Key(fingerprint, order_id, lease)
            return order_id
        if known.fingerprint != fingerprint:
            raise KeyReused("another request")
        if isinstance(known.outcome, ShopError):
            raise known.outcome
        if known.outcome is not None:
            return known.outcome
        if known.leased_until > now:
            raise InProgress("being worked on")
        known.leased_until = lease
        return known.order_id

    async def add(self, order: Order, key: str | None) -> Order:
        kept = self._orders.setdefault(order.id, order)
        if key is not None:
            self._keys[key].outcome = kept
        return kept

    async def refuse(self, key: str, refusal: ShopError) -> None:
        if self._keys[key].outcome is None:
            self._keys[key].outcome = refusal

    async def unclaim(self, key: str) -> None:
        if self._keys[key].outcome is None:
            self._keys[key].leased_until = 0

    async def get(self, order_id: str) -> Order:
        if (order := self._orders.get(order_id)) is None:
            raise NotFound("no such order")
        return order

    async def page(self, limit: int, after: str | None) -> list[Order]:
        newest = sorted(self._orders.values(), key=lambda order: (order.created_at, order.id), reverse=True)
        if after is not None:
            newest = newest[newest.index(await self.get(after)) + 1 :]
        return newest[:limit]


@dataclass
class FakeInventory:
    """`service.orders.orders.Inventory`; each failure is raised once, after the effect where `late` says so."""

    failures: list[ShopError] = field(default_factory=list)
    late: bool = False
    reserved: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:  # noqa: ARG002 - the Protocol's
        self.calls.append("reserve")
        failure = self.failures.pop() if self.failures else None
        if failure is None or self.late:
            self.reserved.add(order_id)
        if failure is not None:
            raise failure
        return Reserved(100 * quantity, "EUR")

    async def release(self, order_id: str) -> None:
        self.calls.append("release")
        self.reserved.discard(order_id)


@dataclass
class FakePayments:
    """`service.orders.orders.Payments`; each failure is raised once, after the effect where `late` says so."""

    failures: list[ShopError] = field(default_factory=list)
    late: bool = False
    charged: dict[str, int] = field(default_factory=dict)

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:  # noqa: ARG002 - the Protocol's
        failure = self.failures.pop() if self.failures else None
        if failure is None or self.late:
            self.charged[order_id] = amount
        if failure is not None:
            raise failure
