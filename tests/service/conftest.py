"""The whole shop in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from observability.testing import Recorder, client_for, running, transport_for
from service.inventory.app import create_app as create_inventory
from service.orders.app import create_app as create_orders
from service.payments.app import create_app as create_payments
from service.settings import OrdersSettings, ServiceSettings


@dataclass
class Shop:
    """The running services, a client for each, and what they told."""

    apps: dict[str, FastAPI]
    orders: httpx.AsyncClient
    inventory: httpx.AsyncClient
    payments: httpx.AsyncClient
    recorder: Recorder
    folder: Path


@pytest.fixture
async def shop(recorder: Recorder, tmp_path: Path) -> AsyncIterator[Shop]:
    """Orders, inventory and payments, calling each other without a network."""
    settings = ServiceSettings(data_dir=tmp_path, faults=True)
    inventory = create_inventory(settings, telemetry=recorder.telemetry("inventory"))
    payments = create_payments(settings, telemetry=recorder.telemetry("payments"))
    orders = create_orders(
        OrdersSettings(data_dir=tmp_path),
        telemetry=recorder.telemetry("orders"),
        transports={
            "inventory": transport_for(inventory),
            "payments": transport_for(payments),
            "external": transport_for(inventory),
        },
    )
    apps = {"orders": orders, "inventory": inventory, "payments": payments}
    async with AsyncExitStack() as stack:
        for app in reversed(apps.values()):
            await stack.enter_async_context(running(app))
        clients = {
            name: await stack.enter_async_context(client_for(app, f"http://{name}")) for name, app in apps.items()
        }
        yield Shop(apps, recorder=recorder, folder=tmp_path, **clients)
