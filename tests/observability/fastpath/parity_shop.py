"""An application with a route of each kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from opentelemetry import baggage, propagate, trace
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.routing import Mount, Route


class Stop(BaseException):
    """What ends a process is none of Python's exceptions that handlers see."""


def shop() -> FastAPI:  # noqa: PLR0915 - one route after the other
    """Make it."""
    app = FastAPI()

    @app.api_route("/orders/{order_id}", methods=["GET", "POST"])
    async def order(order_id: str) -> dict[str, str]:
        return {"id": order_id}

    @app.delete("/orders/{order_id}")
    async def delete(order_id: str) -> None:
        raise HTTPException(404, order_id)

    @app.get("/files/{path:path}")
    def file(path: str) -> str:
        return path

    @app.get("/numbers/{number:int}")
    async def number(number: int) -> int:
        return number

    @app.get("/prices/{price:float}/{key:uuid}")
    async def price(price: float, key: str) -> tuple[float, str]:
        return price, key

    @app.get("/status/{code}")
    async def status(code: int) -> Response:
        return Response(status_code=code)

    @app.get("/errors/{code}")
    async def error(code: int) -> Response:
        raise HTTPException(code)

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("no such luck")

    @app.get("/stops")
    async def stops() -> None:
        raise Stop

    @app.get("/hangs")
    async def hangs(request: Request) -> None:
        for _ in range(1000):
            if await request.is_disconnected():
                break
            await asyncio.sleep(0.001)

    @app.get("/waits")
    async def waits(request: Request) -> None:
        while True:
            await request.receive()

    @app.get("/stream")
    async def stream(fail: bool = False) -> Response:
        async def chunks() -> AsyncIterator[str]:
            with trace.get_tracer("t").start_as_current_span("chunks"):
                yield "a"
                await asyncio.sleep(0)
                if fail:
                    raise ValueError("in the middle")
                yield "b"

        return StreamingResponse(chunks())

    @app.get("/background")
    async def background(fail: bool = False) -> Response:
        def work() -> None:
            logging.getLogger("shop").warning("working")
            if fail:
                raise ValueError("after all")

        return PlainTextResponse("later", background=BackgroundTask(work))

    @app.get("/renames")
    async def renames() -> None:
        span = trace.get_current_span()
        span.update_name("renamed")
        span.set_attribute("http.route", "/mine")
        span.set_attribute("own", 1)
        span.set_status(StatusCode.OK)
        span.add_event("seen")

    @app.get("/calls")
    async def calls(request: Request) -> JSONResponse:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        seen = {name: value for name, value in request.headers.items() if name in ("traceparent", "baggage")}
        return JSONResponse({"sent": carrier, "baggage": dict(baggage.get_all()), "seen": seen})

    @app.get("/slash/")
    async def slash() -> str:
        return "slash"

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    router = APIRouter(prefix="/v1")

    @router.get("/items/{item_id}")
    async def item(item_id: str) -> str:
        return item_id

    @router.post("/items")
    async def create(request: Request) -> int:
        return len(await request.body())

    inner = APIRouter(prefix="/deep")

    @inner.put("/{a}/{b}")
    async def deep(a: str, b: str) -> str:
        return a + b

    router.include_router(inner)
    app.include_router(router)

    inside = FastAPI()

    @inside.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    @inside.get("/fails")
    async def inside_fails() -> None:
        raise KeyError("thing")

    app.mount("/inside", inside)

    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    app.mount("/plain", Starlette(routes=[Route("/home", home)]))
    app.mount("/assets", StaticFiles(directory=Path(__file__).parent))
    app.router.routes.append(Route("/any-method", home, methods=None))
    app.router.routes.append(Mount("/tenants/{tenant}", app=Starlette(routes=[Route("/home", home)])))
    return app
