"""FastAPI's own telemetry with its defaults; it logs errors alone, so contrib's handler takes the log line."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.cost import order
from benchmarks.variants.contrib import provide, step


def serve(port: int) -> None:
    """Serve until a signal."""
    provide()
    app = FastAPI()
    order.add_route(app, step)
    order.serve(app, port)
