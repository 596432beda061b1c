"""The events of the shop: their types, what they carry, and who consumes them.

The subject of each is the order's id, and its source the service that tells it.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from observability.events.event import Event
from service.schema import OrderId, Sku

ORDER_PLACED: Final = "order.placed"
ORDER_ABANDONED: Final = "order.abandoned"
SHIPMENT_CREATED: Final = "shipment.created"
SHIPMENT_REFUSED: Final = "shipment.refused"

CONSUMERS: Final = {
    ORDER_PLACED: ("shipping",),
    ORDER_ABANDONED: ("orders",),
    SHIPMENT_CREATED: ("orders",),
    SHIPMENT_REFUSED: ("orders",),
}
"""The services that consume the events of each type."""


class EventData(BaseModel):
    """What an event carries. Later versions may add to it, so what is not known here is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class OrderPlaced(EventData):
    """An order is reserved and paid; the amount is in minor units."""

    sku: Sku
    quantity: int
    amount: int
    currency: str


class OrderAbandoned(EventData):
    """An order was given up without knowing what it has taken: that is to be given back."""

    reason: str


class ShipmentCreated(EventData):
    """The goods of an order are on their way."""

    sku: Sku
    quantity: int


class ShipmentRefused(EventData):
    """The goods of an order cannot be shipped."""

    reason: str


_order_id = TypeAdapter[str](OrderId)


def about_order(type: str, source: str, order_id: str, data: EventData) -> Event:  # noqa: A002 - as in CloudEvents
    """An event about an order."""
    return Event(type=type, source=source, subject=order_id, data=data.model_dump_json().encode())


def order_of(event: Event) -> str:
    """The id of the order that an event is about.

    Raises:
        ValidationError: Its subject has not the form of one.
    """
    return _order_id.validate_python(event.subject)
