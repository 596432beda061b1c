"""Each service, over a real connection, keeps what its OpenAPI says, whatever it is sent."""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from observability import Telemetry
from service.inventory.app import create_app as create_inventory
from service.orders.app import create_app as create_orders
from service.payments.app import create_app as create_payments
from service.settings import EventSettings, OrdersSettings, ServiceSettings
from service.shipping.app import create_app as create_shipping

START_TIMEOUT_S = 20


def _serve(
    apps: dict[str, FastAPI], listeners: dict[str, socket.socket]
) -> tuple[threading.Thread, list[uvicorn.Server]]:
    servers = {name: uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on")) for name, app in apps.items()}

    async def serve_all() -> None:
        await asyncio.gather(*(server.serve(sockets=[listeners[name]]) for name, server in servers.items()))

    thread = threading.Thread(target=asyncio.run, args=(serve_all(),), name="shop")
    thread.start()
    return thread, list(servers.values())


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the running services answer."""
    listeners = {
        name: socket.create_server(("127.0.0.1", 0)) for name in ("orders", "inventory", "payments", "shipping")
    }
    urls = {name: f"http://127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()}
    data_dir = tmp_path_factory.mktemp("shop")
    common = ServiceSettings(data_dir=data_dir)
    own = OrdersSettings(
        data_dir=data_dir,
        inventory_url=urls["inventory"],
        payments_url=urls["payments"],
        shipping_url=urls["shipping"],
        orders_url=urls["orders"],
        events_token="token",
    )
    events = EventSettings(data_dir=data_dir, orders_url=urls["orders"], events_token="token")
    thread, servers = _serve(
        {
            "orders": create_orders(own, telemetry=Telemetry.build("orders")),
            "inventory": create_inventory(common, telemetry=Telemetry.build("inventory")),
            "payments": create_payments(common, telemetry=Telemetry.build("payments")),
            "shipping": create_shipping(events, telemetry=Telemetry.build("shipping")),
        },
        listeners,
    )
    started = threading.Event()
    try:
        for _ in range(START_TIMEOUT_S * 100):
            if all(server.started for server in servers):
                break
            assert thread.is_alive()
            started.wait(0.01)
        yield urls
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(START_TIMEOUT_S)
    assert not thread.is_alive()


quick = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("service", "operations"), [("orders", 5), ("inventory", 5), ("payments", 4), ("shipping", 2)])
def test_as_documented(urls: dict[str, str], service: str, operations: int, mode: GenerationMode) -> None:
    """Each operation answers valid and invalid requests as it says, and never with a server error."""
    schema = schemathesis.openapi.from_url(f"{urls[service]}/openapi.json")
    found = [operation.ok() for operation in schema.get_all_operations() if isinstance(operation, Ok)]
    assert len(found) == operations
    for operation in found:
        if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
            continue  # nothing that could be wrong

        @quick
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            if mode is GenerationMode.POSITIVE and "idempotency-key" in case.headers:
                case.headers["idempotency-key"] = str(uuid.uuid4())  # no schema can say that a key serves one request
            case.call_and_validate()

        check()
