"""`/faults` of a service that takes faults: GET lists them, PUT sets one, DELETE ends all."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from observability.connection import cut_of
from observability.faults.fault import PATH, Fault, Faults
from observability.limits import RequestLimits
from observability.problems import install_problem_handlers, problem

MAX_BODY_BYTES = 4096

logger = logging.getLogger(__name__)


class FaultEndpoint:
    """ASGI middleware that answers for `/faults` itself, outside of the server span: drills are no requests."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self._endpoint = RequestLimits(_application(faults))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = scope["type"] == "http" and scope["path"] == PATH
        await (self._endpoint if own else self.app)(scope, receive, send)


def _application(faults: Faults) -> FastAPI:
    app = FastAPI(
        openapi_url=None,
        max_body_size=MAX_BODY_BYTES,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.get(PATH)
    async def list_all() -> list[dict[str, Any]]:
        return [{**fault.model_dump(), "seconds": round(left, 1)} for fault, left in faults.in_force().items()]

    @app.put(PATH, status_code=204, response_model=None)
    async def put(fault: Fault, request: Request) -> Response | None:
        if fault.kind in ("reset", "truncated") and cut_of(request.scope) is None:
            return problem(409, "Not possible", "Only the kit's own server can cut a connection.")
        faults.set(fault)
        logger.warning("fault %s for %g s, on %g of %s", fault.kind, fault.seconds, fault.share, fault.route)
        return None

    @app.delete(PATH, status_code=204)
    async def delete() -> None:
        faults.clear()
        logger.warning("no faults any more")

    install_problem_handlers(app)
    return app
