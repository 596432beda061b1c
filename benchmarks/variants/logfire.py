"""Logfire, sending to an OTLP receiver of one's own. It makes spans without a length of log lines."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import logfire
from fastapi import FastAPI

from benchmarks.cost import order
from benchmarks.variants.bare import log_to_stdout


def _configure() -> None:
    log_to_stdout()
    logfire.configure(send_to_logfire=False, console=False, service_name="shop")
    logging.getLogger().addHandler(logfire.LogfireLoggingHandler())


def _step(index: int) -> Any:  # noqa: ANN401 - a context manager
    return logfire.span("price", item=index)


def serve(port: int) -> None:
    """Serve until a signal."""
    _configure()
    app = FastAPI()
    order.add_route(app, _step)
    logfire.instrument_fastapi(app)
    order.serve(app, port)


def create_client() -> httpx.AsyncClient:
    """A client that Logfire observes."""
    _configure()
    client = httpx.AsyncClient()
    logfire.instrument_httpx(client)
    return client
