"""OTLP over HTTP: `POST /v1/{traces,logs,metrics}` with protobuf or JSON, plain, gzipped or as zstd.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. What is broken is 400 and what is too large 413, which no client
repeats; what comes while there is no room, or while the file cannot be written, is 503, which every client repeats; 200
means that it is stored. An answer, a refusal's too, is in the encoding of its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing

from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from observability.viewer.encodings import INFLATE
from observability.viewer.guard import Guard
from observability.viewer.intake import Intake, Signal
from observability.viewer.otlp_json import from_protobuf, to_protobuf
from observability.viewer.refusals import BrokenError, OverloadedError, RefusedError, TooLargeError, TooSlowError
from observability.viewer.token import Token, TokenGuard

RETRY_AFTER_S = 1
DISCARD_TIMEOUT_S = 1.0
"""How long the rest of a refused body is waited for."""

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_MESSAGES: dict[Signal, tuple[Callable[[], Message], type[Message]]] = {
    Signal.TRACES: (ExportTraceServiceRequest, ExportTraceServiceResponse),
    Signal.LOGS: (ExportLogsServiceRequest, ExportLogsServiceResponse),
    Signal.METRICS: (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}
_STATUSES: dict[type[RefusedError], tuple[int, int]] = {
    BrokenError: (400, Code.INVALID_ARGUMENT),
    TooSlowError: (408, Code.DEADLINE_EXCEEDED),
    TooLargeError: (413, Code.RESOURCE_EXHAUSTED),
    OverloadedError: (503, Code.UNAVAILABLE),
}


def create_receiver(intake: Intake, *, token: Token | None = None, origins: Collection[str] = ()) -> Starlette:
    """Make the application that receives telemetry.

    Args:
        intake: What takes it.
        token: What senders have to know, if they have to know anything.
        origins: Origins of pages that may send, such as `https://shop.example`.
    """

    async def receive(request: Request) -> Response:
        signal = Signal(request.url.path.rpartition("/")[2])
        message, answer = _MESSAGES[signal]
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        inflate = INFLATE.get(request.headers.get("content-encoding", "identity").strip().lower())
        if media_type not in (_PROTOBUF, _JSON):
            intake.arrivals.refused(signal.value, "of another media type")
            return PlainTextResponse(f"send {_PROTOBUF} or {_JSON}\n", 415)
        if inflate is None:
            intake.arrivals.refused(signal.value, "of another content encoding")
            return _status(415, Code.INVALID_ARGUMENT, "send it plain, as gzip or as zstd", media_type)

        def decode(body: bytes) -> bytes:
            return to_protobuf(inflate(body), message()) if media_type == _JSON else inflate(body)

        async with aclosing(request.stream()) as arriving:
            try:
                encoded = await intake.take(signal, arriving, decode)
            except RefusedError as error:
                response = _refusal(error, media_type)
                if isinstance(error, TooSlowError) or not await _has_arrived(arriving):
                    response.headers["connection"] = "close"
                return response
            except ClientDisconnect:
                intake.arrivals.refused(signal.value, "did not arrive whole")
                return _refusal(BrokenError("it did not arrive whole"), media_type)
        if media_type == _JSON:
            encoded = from_protobuf(answer.FromString(encoded))
        return Response(encoded, media_type=media_type)

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[Route(f"/v1/{signal.value}", receive, methods=["POST"]) for signal in Signal] + [Route("/livez", live)],
        middleware=[
            Middleware(Guard, any_host=token is not None, origins=origins),
            # Before the token, which a browser does not send when it asks whether it may.
            *([_cors(origins)] if origins else []),
            *([] if token is None else [Middleware(TokenGuard, token, pages=False)]),
        ],
    )


def _cors(origins: Collection[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["authorization", "content-encoding", "content-type"],
        allow_credentials=True,  # as `sendBeacon` has them sent; nobody looks at them
        expose_headers=["retry-after"],
    )


def _refusal(error: RefusedError, media_type: str) -> Response:
    response = _status(*_STATUSES[type(error)], str(error), media_type)
    if isinstance(error, OverloadedError):
        response.headers["retry-after"] = str(RETRY_AFTER_S)
    return response


async def _has_arrived(arriving: AsyncIterator[bytes]) -> bool:
    """Whether a body has come to its end, what is left of it for nothing.

    A sender in the middle of its body takes an answer and the end of the connection for a failure of the network, after
    which it comes again, even with what is too large.
    """
    try:
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            async for _ in arriving:
                pass
    except (ClientDisconnect, TimeoutError):
        return False
    return True


def _status(status: int, code: int, message: str, media_type: str) -> Response:
    found = Status(code=code, message=message)
    body = from_protobuf(found) if media_type == _JSON else found.SerializeToString()
    return Response(body, status, media_type=media_type)
