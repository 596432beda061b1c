"""The events that orders tells, and what it does with those that it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from observability.events.consumer import Handler
from observability.events.delivery import Refused, Unavailable
from observability.events.event import Event
from service.errors import DependencyError, NotFound
from service.events import (
    ORDER_ABANDONED,
    ORDER_PLACED,
    SHIPMENT_CREATED,
    SHIPMENT_REFUSED,
    OrderAbandoned,
    OrderPlaced,
    ShipmentRefused,
    about_order,
    order_of,
)
from service.orders.order import Order
from service.orders.orders import Orders

SOURCE = "/orders"


def event_of(order: Order) -> Event | None:
    """What is told of an order that has come into its state, if anything is."""
    if order.state == "placed" and order.amount is not None and order.currency is not None:
        placed = OrderPlaced(sku=order.sku, quantity=order.quantity, amount=order.amount, currency=order.currency)
        return about_order(ORDER_PLACED, SOURCE, order.id, placed)
    if order.state == "abandoned":
        return about_order(ORDER_ABANDONED, SOURCE, order.id, OrderAbandoned(reason=order.history[-1].reason or ""))
    return None


def handlers(orders: Callable[[], Orders]) -> Mapping[str, Handler]:
    """What is done with each type of event.

    Each may come again, and when its order has gone on: then it changes nothing. One of an order that is not known is
    refused for good, since its order was there before any event of it.

    Args:
        orders: Gives the business, once the service has started.
    """

    async def shipment_created(event: Event) -> None:
        with _refusing():
            await orders().confirm(order_of(event), event)

    async def shipment_refused(event: Event) -> None:
        with _refusing():
            await orders().cancel(order_of(event), ShipmentRefused.model_validate_json(event.data).reason, event)

    async def order_abandoned(event: Event) -> None:
        with _refusing():
            await orders().cancel(order_of(event), OrderAbandoned.model_validate_json(event.data).reason, event)

    return {
        SHIPMENT_CREATED: shipment_created,
        SHIPMENT_REFUSED: shipment_refused,
        ORDER_ABANDONED: order_abandoned,
    }


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors of the shop, as those who deliver events know them."""
    try:
        yield
    except NotFound as error:
        raise Refused(str(error), final=True) from error
    except DependencyError as error:
        # What was not even asked has nothing against this event; what has answered may have.
        raise Refused(str(error)) if error.sent else Unavailable(str(error)) from error
