"""This kit, as the README says to use it. `CLEARSPAN_FASTPATH` in the environment says whether its fast path is on.

With `REQUEST_LINE=off` it logs no line of its own for each request, as none of its peers does.
"""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

import httpx
from fastapi import FastAPI

import observability
from benchmarks.cost import order
from observability.providers import Telemetry
from observability.resilience.client import Dependency
from observability.resilience.client import create_client as create_observed_client


def serve(port: int) -> None:
    """Serve until a signal."""
    telemetry = Telemetry.from_environment("shop")
    tracer = telemetry.tracer_provider.get_tracer("shop")

    def step(index: int) -> Any:  # noqa: ANN401 - a context manager of the API
        return tracer.start_as_current_span("price", attributes={"shop.item": index})

    app = FastAPI()
    order.add_route(app, step)
    observability.observe(app, telemetry)
    if os.environ.get("REQUEST_LINE") == "off":
        logging.getLogger("observability.requests").setLevel(logging.WARNING)
    observability.serve(app, host="127.0.0.1", port=port)


def create_client() -> httpx.AsyncClient:
    """A client with the whole chain."""
    telemetry = Telemetry.from_environment("shop")
    atexit.register(telemetry.close)
    return create_observed_client(Dependency(name="inventory"), telemetry)
