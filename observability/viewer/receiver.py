"""OTLP over HTTP: `POST /v1/{traces,logs,metrics}` with protobuf, plain or gzipped.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. What is broken is 400 and what is too large 413, which no client
repeats; 200 means that it is stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from observability.viewer.guard import LoopbackGuard
from observability.viewer.ingest import ingest_logs, ingest_metrics, ingest_traces
from observability.viewer.store import Store

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_INFLATED_BYTES = 64 * 1024 * 1024
_MEDIA_TYPE = "application/x-protobuf"
_INGEST: dict[str, Callable[[bytes, Store], bytes]] = {
    "traces": ingest_traces,
    "logs": ingest_logs,
    "metrics": ingest_metrics,
}


class _TooLargeError(Exception):
    pass


def create_receiver(store: Store) -> Starlette:
    """Make the application that receives telemetry into a store."""

    async def receive(request: Request) -> Response:
        ingest = _INGEST[request.url.path.rpartition("/")[2]]
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if media_type != _MEDIA_TYPE or encoding not in ("identity", "gzip"):
            return _refusal(415, f"send {_MEDIA_TYPE}, plain or gzipped")
        try:
            body = await _read(request)
            return Response(await run_in_threadpool(_process, ingest, body, encoding, store), media_type=_MEDIA_TYPE)
        except _TooLargeError:
            return _refusal(413, f"at most {MAX_BODY_BYTES} bytes, {MAX_INFLATED_BYTES} when inflated")
        except (DecodeError, RecursionError, zlib.error):
            return _refusal(400, "this is no OTLP message of this signal")
        except ClientDisconnect:
            return _refusal(400, "the body did not arrive whole")

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[Route(f"/v1/{signal}", receive, methods=["POST"]) for signal in _INGEST] + [Route("/livez", live)],
        middleware=[Middleware(LoopbackGuard)],
    )


def _process(ingest: Callable[[bytes, Store], bytes], body: bytes, encoding: str, store: Store) -> bytes:
    return ingest(_inflate(body) if encoding == "gzip" else body, store)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TooLargeError
    return bytes(body)


def _inflate(body: bytes) -> bytes:
    """Inflate gzip, of several members too, without ever holding more than the bound."""
    inflated = bytearray()
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        inflated += member.decompress(body, MAX_INFLATED_BYTES + 1 - len(inflated))
        if len(inflated) > MAX_INFLATED_BYTES:
            raise _TooLargeError
        if not member.eof:
            raise zlib.error("cut off")
        body = member.unused_data
    return bytes(inflated)


def _refusal(status: int, reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", status)
