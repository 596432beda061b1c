"""No telemetry: FastAPI, and a log line on stdout."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext

import httpx
from fastapi import FastAPI

from benchmarks.cost import order


def log_to_stdout() -> None:
    """What every variant but this kit's writes beside its telemetry."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def serve(port: int) -> None:
    """Serve until a signal."""
    log_to_stdout()
    app = FastAPI()
    order.add_route(app, lambda _: nullcontext())
    order.serve(app, port)


def create_client() -> httpx.AsyncClient:
    """As anyone makes one."""
    log_to_stdout()
    return httpx.AsyncClient()
