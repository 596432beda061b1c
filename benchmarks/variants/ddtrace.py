"""Datadog's library, traces alone, sending as to an agent."""

from __future__ import annotations

from typing import Any

import ddtrace.auto  # noqa: F401 - before what it patches
import httpx
from ddtrace.trace import tracer
from fastapi import FastAPI

from benchmarks.cost import order
from benchmarks.variants.bare import log_to_stdout


def _step(index: int) -> Any:  # noqa: ANN401 - a context manager
    span = tracer.trace("price")
    span.set_tag("shop.item", index)
    return span


def serve(port: int) -> None:
    """Serve until a signal."""
    log_to_stdout()
    app = FastAPI()
    order.add_route(app, _step)
    order.serve(app, port)


def create_client() -> httpx.AsyncClient:
    """A client, which the import above has patched."""
    log_to_stdout()
    return httpx.AsyncClient()
