"""One order as one trace across the services."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

from service.orders.sweep import ABANDON_AFTER_S, Sweep
from service.payments.payments import DECLINED_CARD
from service.telemetry import ORDER_AMOUNT, ORDERS, OUTCOME
from tests.service.conftest import EMBEDDED, SERVERS, Shop

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("shop", [EMBEDDED, SERVERS], indirect=True)]

_STATEMENT = re.compile(r"(\w+) CLIENT (SELECT|INSERT|UPDATE|DELETE)( (?!http\.)\S+)?$", re.MULTILINE)


def _tree(shop: Shop, **shown: Any) -> str:
    """The trace, with each statement named for its service's own database, as contrib does with a SQLite file."""
    return _STATEMENT.sub(r"\1 CLIENT \2 \1.db", shop.recorder.tree(**shown))


async def test_order(shop: Shop) -> None:
    """An order is one trace, from the request over reservation and payment to the shipment that confirms it."""
    response = await shop.orders.post("/orders", json={"sku": "mug", "quantity": 2})
    assert response.status_code == 201
    assert (await shop.settled(response.json()["id"])).state == "confirmed"
    assert (
        _tree(shop)
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=201
    · INFO order placed
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=200
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=200
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT PUT http.response.status_code=200
      payments SERVER PUT /payments/{order_id} http.response.status_code=200
        payments CLIENT SELECT payments.db
        payments CLIENT INSERT payments.db
    orders CLIENT UPDATE orders.db
    orders PRODUCER create order.placed
      orders INTERNAL wait order.placed
      orders CLIENT INSERT orders.db
      orders CLIENT send order.placed
      shipping CONSUMER process order.placed -> orders create order.placed
        · INFO shipment created
        shipping CLIENT INSERT shipping.db
        shipping CLIENT INSERT shipping.db
        shipping PRODUCER create shipment.created
          shipping INTERNAL wait shipment.created
          shipping CLIENT INSERT shipping.db
          shipping CLIENT send shipment.created
          orders CONSUMER process shipment.created -> shipping create shipment.created
            · INFO order confirmed
            orders CLIENT INSERT orders.db
            orders CLIENT SELECT orders.db
            orders CLIENT UPDATE orders.db"""
    )


async def test_unshippable(shop: Shop) -> None:
    """An order that shipping refuses is refunded and released in its own trace."""
    response = await shop.orders.post("/orders", json={"sku": "anvil", "quantity": 1})
    assert response.status_code == 201
    assert (await shop.settled(response.json()["id"])).state == "cancelled"
    assert (
        _tree(shop)
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=201
    · INFO order placed
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=200
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=200
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT PUT http.response.status_code=200
      payments SERVER PUT /payments/{order_id} http.response.status_code=200
        payments CLIENT SELECT payments.db
        payments CLIENT INSERT payments.db
    orders CLIENT UPDATE orders.db
    orders PRODUCER create order.placed
      orders INTERNAL wait order.placed
      orders CLIENT INSERT orders.db
      orders CLIENT send order.placed
      shipping CONSUMER process order.placed -> orders create order.placed
        · WARN shipment refused
        shipping CLIENT INSERT shipping.db
        shipping CLIENT INSERT shipping.db
        shipping PRODUCER create shipment.refused
          shipping INTERNAL wait shipment.refused
          shipping CLIENT INSERT shipping.db
          shipping CLIENT send shipment.refused
          orders CONSUMER process shipment.refused -> shipping create shipment.refused
            · WARN order cancelled
            orders CLIENT SELECT orders.db
            orders CLIENT PUT http.response.status_code=200
              payments SERVER PUT /payments/{order_id}/refund http.response.status_code=200
                payments CLIENT SELECT payments.db
                payments CLIENT UPDATE payments.db
            orders CLIENT DELETE http.response.status_code=204
              inventory SERVER DELETE /reservations/{order_id} http.response.status_code=204
                inventory CLIENT SELECT inventory.db
                inventory CLIENT UPDATE inventory.db
                inventory CLIENT UPDATE inventory.db
            orders CLIENT INSERT orders.db
            orders CLIENT SELECT orders.db
            orders CLIENT UPDATE orders.db"""
    )


async def test_declined(shop: Shop) -> None:
    """A declined card is a business answer: no error span, and the goods are released."""
    response = await shop.orders.post("/orders", json={"sku": "mug", "quantity": 1, "card": DECLINED_CARD})
    assert response.status_code == 402
    assert (
        _tree(shop)
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=402
    · WARN order refused
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=200
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=200
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT PUT http.response.status_code=402 error.type=402
      payments SERVER PUT /payments/{order_id} http.response.status_code=402
        payments CLIENT SELECT payments.db
        payments CLIENT INSERT payments.db
    orders CLIENT DELETE http.response.status_code=204
      inventory SERVER DELETE /reservations/{order_id} http.response.status_code=204
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT UPDATE inventory.db
    orders CLIENT UPDATE orders.db"""
    )


async def test_out_of_stock(shop: Shop) -> None:
    """Goods that are not there end the order before any money moves, and that is no error span."""
    response = await shop.orders.post("/orders", json={"sku": "kettle", "quantity": 4})
    assert response.status_code == 409
    assert (
        _tree(shop)
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=409
    · WARN order refused
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=409 error.type=409
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=409
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT UPDATE orders.db"""
    )


async def test_failing_payments(shop: Shop) -> None:
    """When payments fails, each attempt is a span that says which one it is, and all is given back in its trace."""
    await shop.payments.put("/faults", json={"kind": "error", "status": 503})
    shop.deliveries.clear()
    response = await shop.orders.post("/orders", json={"sku": "mug", "quantity": 2})
    assert response.status_code == 502
    await shop.payments.delete("/faults")
    shop.deliveries.set()
    with suppress_instrumentation():
        (order,) = await shop.apps["orders"].state.orders.page(1, None)
    assert (await shop.settled(order.id)).state == "cancelled"
    shown = ("http.response.status_code", "http.request.resend_count", "clearspan.fault")
    assert (
        _tree(shop, attributes=shown)
        == """\
trace 1
  orders SERVER POST /orders http.response.status_code=502 ERROR
    · ERROR payment unknown
    orders CLIENT INSERT orders.db
    orders CLIENT PUT http.response.status_code=200
      inventory SERVER PUT /reservations/{order_id} http.response.status_code=200
        inventory CLIENT SELECT inventory.db
        inventory CLIENT SELECT inventory.db
        inventory CLIENT UPDATE inventory.db
        inventory CLIENT INSERT inventory.db
    orders CLIENT PUT http.response.status_code=503 ERROR
      payments SERVER PUT /payments/{order_id} http.response.status_code=503 clearspan.fault=error ERROR
    orders CLIENT PUT http.response.status_code=503 http.request.resend_count=1 ERROR
      payments SERVER PUT /payments/{order_id} http.response.status_code=503 clearspan.fault=error ERROR
    orders CLIENT PUT http.response.status_code=503 http.request.resend_count=2 ERROR
      payments SERVER PUT /payments/{order_id} http.response.status_code=503 clearspan.fault=error ERROR
    orders CLIENT UPDATE orders.db
    orders PRODUCER create order.abandoned
      orders INTERNAL wait order.abandoned
      orders CLIENT INSERT orders.db
      orders CLIENT send order.abandoned
      orders CONSUMER process order.abandoned -> orders create order.abandoned
        · WARN order cancelled
        orders CLIENT SELECT orders.db
        orders CLIENT PUT http.response.status_code=200
          payments SERVER PUT /payments/{order_id}/refund http.response.status_code=200
            payments CLIENT SELECT payments.db
            payments CLIENT INSERT payments.db
        orders CLIENT DELETE http.response.status_code=204
          inventory SERVER DELETE /reservations/{order_id} http.response.status_code=204
            inventory CLIENT SELECT inventory.db
            inventory CLIENT UPDATE inventory.db
            inventory CLIENT UPDATE inventory.db
        orders CLIENT INSERT orders.db
        orders CLIENT SELECT orders.db
        orders CLIENT UPDATE orders.db"""
    )


async def test_left_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order whose end was not written is given up by a sweep, and all is given back in the trace of its request."""

    async def cut_off(*_: object) -> bool:
        raise ConnectionError

    store = shop.apps["orders"].state.orders._store
    with monkeypatch.context() as patch:
        patch.setattr(store, "advance", cut_off)
        assert (await shop.orders.post("/orders", json={"sku": "mug", "quantity": 2})).status_code == 500
    later = time.time_ns() // 1000 + (ABANDON_AFTER_S + 1) * 1_000_000
    assert await Sweep(store, now=lambda: later).once() == 1
    with suppress_instrumentation():
        (order,) = await store.page(9, None)
    assert (await shop.settled(order.id)).state == "cancelled"
    tree = _tree(shop)
    assert (
        tree[tree.index("    orders CLIENT UPDATE orders.db") :]
        == """\
    orders CLIENT UPDATE orders.db
    orders CLIENT UPDATE orders.db
    orders PRODUCER create order.abandoned
      orders INTERNAL wait order.abandoned
      orders CLIENT INSERT orders.db
      orders CLIENT send order.abandoned
      orders CONSUMER process order.abandoned -> orders create order.abandoned
        · WARN order cancelled
        orders CLIENT SELECT orders.db
        orders CLIENT PUT http.response.status_code=200
          payments SERVER PUT /payments/{order_id}/refund http.response.status_code=200
            payments CLIENT SELECT payments.db
            payments CLIENT UPDATE payments.db
        orders CLIENT DELETE http.response.status_code=204
          inventory SERVER DELETE /reservations/{order_id} http.response.status_code=204
            inventory CLIENT SELECT inventory.db
            inventory CLIENT UPDATE inventory.db
            inventory CLIENT UPDATE inventory.db
        orders CLIENT INSERT orders.db
        orders CLIENT SELECT orders.db
        orders CLIENT UPDATE orders.db"""
    )
    assert tree.count("trace ") == 1


async def test_metrics(shop: Shop) -> None:
    """Orders are counted by what became of them, and their amounts by what was placed."""
    await shop.orders.post("/orders", json={"sku": "mug", "quantity": 2})
    await shop.orders.post("/orders", json={"sku": "mug", "quantity": 1, "card": DECLINED_CARD})
    metrics = shop.recorder.metrics("orders")
    counted = {point.attributes[OUTCOME]: point.value for point in metrics[ORDERS.name]}
    assert counted == {"placed": 1, "PaymentDeclined": 1}
    (amounts,) = metrics[ORDER_AMOUNT.name]
    assert (amounts.count, amounts.sum) == (1, 2500)


async def test_replays_are_not_counted(shop: Shop) -> None:
    """What a repeated key is answered again is counted once, placed or refused."""
    for card, key in ((None, "placed"), (DECLINED_CARD, "refused")):
        body = {"sku": "mug", "quantity": 1} | ({"card": card} if card else {})
        for _ in range(3):
            await shop.orders.post("/orders", json=body, headers={"idempotency-key": key})
    metrics = shop.recorder.metrics("orders")
    counted = {point.attributes[OUTCOME]: point.value for point in metrics[ORDERS.name]}
    assert counted == {"placed": 1, "PaymentDeclined": 1}


async def test_public_edge(shop: Shop) -> None:
    """A stranger's trace is linked to at the edge, and not continued by any service behind it."""
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await shop.orders.get("/call_external_service/", headers={"traceparent": caller, "baggage": "a=b"})
    assert (
        _tree(shop)
        == """\
trace 1
  orders SERVER GET /call_external_service/ http.response.status_code=200 -> outside
    orders CLIENT GET http.response.status_code=200
      inventory SERVER GET / http.response.status_code=200"""
    )
