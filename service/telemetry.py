"""Every name of telemetry that the shop itself emits, declared once."""

from __future__ import annotations

from typing import Final

from observability.telemetry import Instrument

ORDERS: Final = Instrument("shop.orders", "{order}", "Orders by outcome.")

ORDER_AMOUNT: Final = Instrument("shop.order.amount", "{minor_unit}", "Amount of the orders that were placed.")

OUTCOME: Final = "shop.order.outcome"
"""Attribute of `shop.orders`: `placed`, or the kind of problem."""

ORDER_ID: Final = "shop.order.id"
"""Attribute of the request's span: the order that it is about."""
