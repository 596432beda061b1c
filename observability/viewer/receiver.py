"""OTLP over HTTP: `POST /v1/{traces,logs,metrics}` with protobuf, plain or gzipped.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. What is broken is 400 and what is too large 413, which no client
repeats; what comes while there is no room, or while the file cannot be written, is 503, which every client repeats; 200
means that it is stored.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from observability.viewer.arrivals import Arrivals
from observability.viewer.body import BODY_TIMEOUT_S, MAX_BODY_BYTES, Bodies, OverloadedError, TooLargeError, inflate
from observability.viewer.guard import LoopbackGuard
from observability.viewer.ingest import ingest_logs, ingest_metrics, ingest_traces
from observability.viewer.store import Store

RETRY_AFTER_S = 1
COMPLAIN_EVERY_S = 60.0

_MEDIA_TYPE = "application/x-protobuf"
_INGEST: dict[str, Callable[[bytes, Store], bytes]] = {
    "traces": ingest_traces,
    "logs": ingest_logs,
    "metrics": ingest_metrics,
}
_logger = logging.getLogger(__name__)


def create_receiver(store: Store, bodies: Bodies, arrivals: Arrivals) -> Starlette:
    """Make the application that receives telemetry into a store, and counts what arrives."""
    # A decoded message takes many times its bytes, and the store writes for one at a time anyway.
    one_at_a_time = CapacityLimiter(1)
    quiet_until = 0.0

    async def receive(request: Request) -> Response:
        nonlocal quiet_until
        signal = request.url.path.rpartition("/")[2]
        ingest = _INGEST[signal]

        def refuse(status: int, reason: str) -> Response:
            arrivals.refused(signal, reason)
            return _refusal(status, reason)

        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if media_type != _MEDIA_TYPE or encoding not in ("identity", "gzip"):
            return refuse(415, f"send {_MEDIA_TYPE}, plain or gzipped")
        try:
            async with bodies.read(request) as body:
                answer = await to_thread.run_sync(_process, ingest, body, encoding, store, limiter=one_at_a_time)
            arrivals.took(signal, len(body), answer)
            return Response(answer, media_type=_MEDIA_TYPE)
        except OverloadedError:
            return refuse(503, "no room for it now")
        except TooLargeError:
            return refuse(413, f"at most {MAX_BODY_BYTES} bytes, also when inflated")
        except TimeoutError:
            return refuse(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s")
        except (DecodeError, zlib.error):
            return refuse(400, "this is no OTLP message of this signal")
        except ClientDisconnect:
            return refuse(400, "the body did not arrive whole")
        except sqlite3.Error as error:
            if time.monotonic() >= quiet_until:
                quiet_until = time.monotonic() + COMPLAIN_EVERY_S
                _logger.error(  # noqa: TRY400 - one line
                    "telemetry cannot be stored, its senders are told to come again: %s (if that stays, end the viewer,"
                    " delete viewer.db in its data folder, and start it again)",
                    error,
                )
            return refuse(503, "it cannot be stored now")

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[Route(f"/v1/{signal}", receive, methods=["POST"]) for signal in _INGEST] + [Route("/livez", live)],
        middleware=[Middleware(LoopbackGuard)],
    )


def _process(ingest: Callable[[bytes, Store], bytes], body: bytes, encoding: str, store: Store) -> bytes:
    return ingest(inflate(body) if encoding == "gzip" else body, store)


def _refusal(status: int, reason: str) -> Response:
    headers = {}
    if status == 503:  # noqa: PLR2004 - as in RFC 9110
        headers["retry-after"] = str(RETRY_AFTER_S)
    if status in (408, 413, 503):
        headers["connection"] = "close"  # what is left of the body is not waited for
    return PlainTextResponse(f"{reason}\n", status, headers)
