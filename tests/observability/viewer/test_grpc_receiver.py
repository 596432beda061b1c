from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from observability.viewer import body as body_module
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import MAX_BODY_BYTES, MAX_REQUESTS, Bodies
from observability.viewer.grpc_receiver import create_grpc_server
from observability.viewer.intake import Intake
from observability.viewer.store import Store
from observability.viewer.token import Token
from tests.observability.viewer.samples import nested

pytestmark = pytest.mark.anyio

TRACE = nested(1, ["root", "child"]).SerializeToString()
SERVICES = [
    f"opentelemetry.proto.collector.{name}" for name in ("trace.v1.Trace", "logs.v1.Logs", "metrics.v1.Metrics")
]
TRACES, *_ = EXPORTS = [f"/{name}Service/Export" for name in SERVICES]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As everywhere, but for all tests together."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop() -> AsyncIterator[None]:
    """All tests have one event loop, since gRPC tells it of what has ended even when the test has."""
    yield
    await asyncio.sleep(0.1)


@asynccontextmanager
async def _receiving(store: Store, *, bodies: Bodies | None = None, token: Token | None = None) -> AsyncIterator[str]:
    """A server on a free port."""
    server = create_grpc_server(Intake(store, bodies or Bodies(), Arrivals()), token)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _channel(address: str, compression: grpc.Compression = grpc.Compression.NoCompression) -> grpc.aio.Channel:
    options = [("grpc.max_send_message_length", -1)]
    return grpc.aio.insecure_channel(address, options=options, compression=compression)


def _begun(channel: grpc.aio.Channel) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
    """A request whose message is still to be written."""
    method: Callable[[], grpc.aio.StreamUnaryCall[bytes, bytes]] = channel.stream_unary(TRACES)
    return method()


def _export(channel: grpc.aio.Channel, method: str = TRACES) -> Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]:
    return channel.unary_unary(method)


async def _refused(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
async def test_stored(store: Store, compression: grpc.Compression) -> None:
    """What was answered is stored, however often it comes."""
    async with _receiving(store) as address, _channel(address, compression) as channel:
        for _ in range(2):
            assert await _export(channel)(TRACE) == b""
        for method in EXPORTS:
            assert await _export(channel, method)(b"") == b""
    assert store.counts() == (1, 2)


async def test_partly_stored(store: Store) -> None:
    """What of a request is refused is counted in an answer that nobody repeats."""
    request = nested(1, ["root", "child"])
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = bytes(16)
    async with _receiving(store) as address, _channel(address) as channel:
        answer = await _export(channel)(request.SerializeToString())
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1


async def test_unreadable(store: Store) -> None:
    """What cannot be read is refused with the code that keeps its sender from repeating it."""
    async with _receiving(store) as address, _channel(address) as channel:
        for method in EXPORTS:
            refused = await _refused(_export(channel, method)(b"\xff\xff\xff"))
            assert (refused.code(), refused.trailing_metadata()) == (grpc.StatusCode.INVALID_ARGUMENT, ())
        nothing = _begun(channel)
        await nothing.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await nothing
        assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (await _refused(_export(channel, "/else/Export")(TRACE))).code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
async def test_too_large(store: Store, compression: grpc.Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large, also when inflated, is refused as final, and takes nobody's place."""
    monkeypatch.setattr(body_module, "MAX_REQUESTS", 1)
    async with _receiving(store) as address, _channel(address, compression) as channel:
        for _ in range(3):
            refused = await _refused(_export(channel)(bytes(MAX_BODY_BYTES + 1)))
            assert (refused.code(), refused.trailing_metadata()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, ())
            while await _refused_or_none(_export(channel)(TRACE)) is not None:
                pass  # gRPC tells the sender before it tells us, who give the place back


async def test_too_many_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many requests are held as may be, the next is told when to come again; then there is room again."""
    monkeypatch.setattr(body_module, "MAX_REQUESTS", 3)
    async with _receiving(store) as address, _channel(address) as channel:
        held = [_begun(channel) for _ in range(3)]
        for call in held:
            await call.wait_for_connection()
        while (refused := await _refused_or_none(_export(channel)(TRACE))) is None:
            pass  # not all of them have been seen yet
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert _retry_delay(refused) == 1
        for call in held:
            await call.write(TRACE)
            await call.done_writing()
        assert [await call for call in held] == [b""] * 3
        assert await _export(channel)(TRACE) == b""


async def test_many_at_once(store: Store) -> None:
    """As many small requests as may be held at once are all taken, though few large ones could be."""
    async with _receiving(store) as address, _channel(address) as channel:
        assert await asyncio.gather(*(_export(channel)(TRACE) for _ in range(MAX_REQUESTS))) == [b""] * MAX_REQUESTS


async def test_slow_message(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that does not arrive in time is refused, and its place is free again."""
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.01)
    monkeypatch.setattr(body_module, "MAX_REQUESTS", 1)
    async with _receiving(store) as address, _channel(address) as channel:
        for _ in range(2):
            slow = _begun(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await slow
            assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_stop(store: Store) -> None:
    """A sender in the middle of its message is told to come again when the viewer is about to end."""
    bodies = Bodies()
    async with _receiving(store, bodies=bodies) as address, _channel(address) as channel:
        slow = _begun(channel)
        await slow.wait_for_connection()
        bodies.stop()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await slow
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_full_disk(store: Store) -> None:
    """While the disk is full senders are told when to come again."""
    store._database._writer.execute("PRAGMA max_page_count = 1")
    big = nested(1, ["x" * 10_000] * 100).SerializeToString()
    async with _receiving(store) as address, _channel(address) as channel:
        refused = await _refused(_export(channel)(big))
        assert (refused.code(), _retry_delay(refused)) == (grpc.StatusCode.UNAVAILABLE, 1)
        store._database._writer.execute("PRAGMA max_page_count = 100000")
        assert await _export(channel)(TRACE) == b""


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", "a secret of the test"),),
        (("authorization", "Bearer a secret of the test"), ("authorization", "Bearer a secret of the test")),
    ],
    ids=["none", "wrong", "no bearer", "twice"],
)
async def test_token(store: Store, metadata: tuple[tuple[str, str], ...]) -> None:
    """Who does not tell the token is refused for good, who does is not."""
    token = Token("a secret of the test")
    async with _receiving(store, token=token) as address, _channel(address) as channel:
        refused = await _refused(_export(channel)(TRACE, metadata=metadata))
        assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
        assert store.counts() == (0, 0)
        told = (("authorization", "Bearer a secret of the test"),)
        assert await _export(channel)(TRACE, metadata=told) == b""


async def _refused_or_none(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> grpc.aio.AioRpcError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


def _retry_delay(refused: grpc.aio.AioRpcError) -> int:
    trailer = dict(refused.trailing_metadata())
    encoded, for_python = trailer["grpc-status-details-bin"], trailer["google.rpc.retryinfo-bin"]
    assert isinstance(encoded, bytes)
    (detail,) = Status.FromString(encoded).details
    info = RetryInfo()
    assert detail.Unpack(info)
    assert for_python == info.SerializeToString()
    return int(info.retry_delay.seconds)


@pytest.mark.parametrize("held", [body_module.MAX_HELD_BYTES, 1024], ids=["broken", "no room"])
async def test_refused_is_gone(store: Store, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """What was refused takes no memory any more, even before garbage is collected."""
    monkeypatch.setattr(body_module, "MAX_HELD_BYTES", held)
    message = b"\xff" * 2**20
    async with _receiving(store) as address, _channel(address) as channel:
        await _refused(_export(channel)(message))
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(10):
                await _refused(_export(channel)(message))
            assert tracemalloc.get_traced_memory()[0] < 3 * len(message)
        finally:
            tracemalloc.stop()
            gc.enable()
