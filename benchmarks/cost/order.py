"""The application that all variants serve: one small JSON route that logs one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import uvicorn
from fastapi import FastAPI

Step = Callable[[int], AbstractContextManager[Any]]
"""Makes a span of the application's own, around one step of its work."""

PATH = "/orders/17"
ANSWER: dict[str, Any] = {"id": 17, "sku": "mug", "quantity": 2, "total": {"amount": 2500, "currency": "EUR"}}
BODY = json.dumps(ANSWER, separators=(",", ":")).encode()

logger = logging.getLogger("shop")


def add_route(app: FastAPI, step: Step) -> None:
    """Give an application the route; `?spans=5` makes four steps beside the request's own span."""

    @app.get("/orders/{number}")
    async def order(number: int, spans: int = 1) -> dict[str, Any]:
        for index in range(spans - 1):
            with step(index):
                pass
        logger.info("order %d was looked up", number)
        return ANSWER | {"id": number}


def serve(app: FastAPI, port: int) -> None:
    """Serve it as uvicorn does where its fast parts are installed, without a line for each request."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
    )
