"""What orders counts."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from service.errors import ShopError
from service.orders.order import Order
from service.telemetry import ORDER_AMOUNT, ORDERS, OUTCOME


class OrderMetrics:
    """The instruments of the orders service."""

    def __init__(self, meter: Meter) -> None:
        self._orders = meter.create_counter(*ORDERS)
        self._amount = meter.create_histogram(*ORDER_AMOUNT)

    def placed(self, order: Order) -> None:
        """Count an order that was placed."""
        self._orders.add(1, {OUTCOME: "placed"})
        if order.amount is not None:
            self._amount.record(order.amount)

    def refused(self, error: ShopError) -> None:
        """Count an order that was not."""
        self._orders.add(1, {OUTCOME: type(error).__name__})
