"""OTLP over gRPC: the three signals as over HTTP, in the same store, within the same bounds.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc. Clients repeat UNAVAILABLE, and neither INVALID_ARGUMENT nor, if it
comes without a time to wait, RESOURCE_EXHAUSTED, which is what gRPC itself answers to too large a message. No host or
origin is checked here: no page can make a browser speak HTTP/2 without TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from observability.viewer.body import MAX_BODY_BYTES, MAX_HELD_BYTES, MAX_REQUESTS
from observability.viewer.intake import Intake, Signal
from observability.viewer.refusals import BrokenError, OverloadedError, RefusedError, TooLargeError, TooSlowError
from observability.viewer.token import Token

RETRY_AFTER_S = 1

_SERVICES = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
}
_CODES: dict[type[RefusedError], grpc.StatusCode] = {
    BrokenError: grpc.StatusCode.INVALID_ARGUMENT,
    TooSlowError: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverloadedError: grpc.StatusCode.UNAVAILABLE,
}
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),  # as it comes, and inflated
    ("grpc.max_concurrent_streams", MAX_REQUESTS),
    # What is not read yet waits at its sender, but for one window of 64 KiB a connection, which probing would widen.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),  # a second viewer is told that the port is taken
]

_Context = grpc.aio.ServicerContext[bytes, bytes]


def create_grpc_server(intake: Intake, token: Token | None = None) -> grpc.aio.Server:
    """Make the server that receives telemetry; it has no port yet.

    Args:
        intake: What takes it.
        token: What senders have to know, if they have to know anything.
    """
    # gRPC assembles a message before we see any of it, so the bound on what is held has to stand before the reading:
    # for each there are its buffers and our copy at once.
    reading = asyncio.Semaphore(MAX_HELD_BYTES // MAX_BODY_BYTES // 2)

    def handler(signal: Signal) -> grpc.GenericRpcHandler:
        async def export(_requests: AsyncIterator[bytes], context: _Context) -> None:
            if token is not None and not token.is_told_by(_authorization(context)):
                context.set_code(grpc.StatusCode.UNAUTHENTICATED)
                context.set_details("the viewer's token is missing or wrong")
                return

            async def read() -> AsyncGenerator[bytes]:
                async with reading:
                    message = await context.read()
                if not isinstance(message, bytes):
                    raise BrokenError("there is no message")
                yield message

            async with aclosing(read()) as arriving:
                try:
                    answer = await intake.take(signal, arriving, bytes)
                except RefusedError as error:
                    _refuse(context, error)
                else:
                    await context.write(answer)

        # As bytes, for `ingest` to decode; and as streams, since a unary request would be read before there is room.
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(export)
        return grpc.method_handlers_generic_handler(_SERVICES[signal], {"Export": method})

    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([handler(signal) for signal in Signal])
    return server


def _authorization(context: _Context) -> list[bytes]:
    found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    return [value.encode() if isinstance(value, str) else value for value in found]


def _refuse(context: _Context, error: RefusedError) -> None:
    # Not by `abort`, whose exception is part of a cycle: the message would stay until the collector came round.
    code = _CODES[type(error)]
    context.set_code(code)
    context.set_details(str(error))
    if isinstance(error, OverloadedError):
        info = RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_S))
        status = Status(code=code.value[0], message=str(error))
        status.details.add().Pack(info)
        context.set_trailing_metadata(
            (
                ("grpc-status-details-bin", status.SerializeToString()),
                ("google.rpc.retryinfo-bin", info.SerializeToString()),  # where Python's exporter looks for it
            )
        )
