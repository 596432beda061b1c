"""The events that shipping tells, and what it does with those that it is told."""

from __future__ import annotations

from collections.abc import Mapping

from observability.events.consumer import Handler
from observability.events.event import Event
from service.events import (
    ORDER_PLACED,
    SHIPMENT_CREATED,
    SHIPMENT_REFUSED,
    OrderPlaced,
    ShipmentCreated,
    ShipmentRefused,
    about_order,
    order_of,
)
from service.shipping.shipping import Shipment, Shipping

SOURCE = "/shipping"


def event_of(shipment: Shipment) -> Event:
    """What is told of a shipment."""
    if shipment.refusal is not None:
        return about_order(SHIPMENT_REFUSED, SOURCE, shipment.order_id, ShipmentRefused(reason=shipment.refusal))
    created = ShipmentCreated(sku=shipment.sku, quantity=shipment.quantity)
    return about_order(SHIPMENT_CREATED, SOURCE, shipment.order_id, created)


def handlers(shipping: Shipping) -> Mapping[str, Handler]:
    """What is done with each type of event."""

    async def order_placed(event: Event) -> None:
        placed = OrderPlaced.model_validate_json(event.data)
        await shipping.ship(order_of(event), placed.sku, placed.quantity, event)

    return {ORDER_PLACED: order_placed}
