"""`python -m benchmarks.chain`: what the chain adds to a call, beside the bare instrumented transport.

Both make the same calls in turn, in one process, first to a transport that answers at once, which shows the chain's own
time, and then to a local server, which shows what a caller feels. Only the ratios mean something on another machine.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from rich.console import Console

from observability.fastpath.client import observe_transport
from observability.providers import Telemetry
from observability.resilience.client import Dependency, create_chain

ROUNDS, CALLS = 200, 20
GOAL = 1.25
BODY = b'{"amount": 2500, "currency": "EUR"}'

Transport = Callable[[], httpx.AsyncBaseTransport]


class _Dropped(SpanProcessor):
    """Spans are made and dropped: exporting them costs both sides the same."""

    def on_end(self, span: ReadableSpan) -> None:
        pass


class _Instant(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 - any request
        return httpx.Response(200, headers={"content-type": "application/json"}, content=BODY)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The smallest server that keeps its connections."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
    writer.close()


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stock"
    server.close()
    await asyncio.sleep(0)  # the clients are closed, and each connection's task ends by itself


async def _round(client: httpx.AsyncClient, url: str) -> float:
    """Seconds a call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        (await client.get(url)).raise_for_status()
    return (time.perf_counter() - began) / CALLS


async def _compare(telemetry: Telemetry, transport: Transport, url: str) -> tuple[float, float]:
    """The medians of the bare transport's seconds a call, and of how many times as many the chain takes.

    Each round gives one ratio of two neighbours in time, so that what else the machine does hits both alike.
    """
    bare = observe_transport(transport(), telemetry.tracer_provider, telemetry.meter_provider, fast=telemetry.fast)
    chain = create_chain(Dependency(name="inventory"), telemetry, transport())
    seconds, ratios = [], []
    async with httpx.AsyncClient(transport=bare) as one, httpx.AsyncClient(transport=chain) as other:
        await _round(one, url)
        await _round(other, url)
        for number in range(ROUNDS):
            order = (one, other) if number % 2 else (other, one)
            took = {client: await _round(client, url) for client in order}
            seconds.append(took[one])
            ratios.append(took[other] / took[one])
    return statistics.median(seconds), statistics.median(ratios)


async def main() -> int:
    """Print the ratios; 1 if the one of the local server is beyond the goal."""
    console = Console(highlight=False, soft_wrap=True)
    telemetry = Telemetry.build("benchmark", span_processors=[_Dropped()])
    async with _server() as url:
        for name, transport, where in (
            ("a transport that answers at once", _Instant, "http://inventory/stock"),
            ("a local server", httpx.AsyncHTTPTransport, url),
        ):
            bare, ratio = await _compare(telemetry, transport, where)
            console.print(f"{name}: bare {bare * 1e6:.0f} µs a call, with the chain {ratio:.2f} times as much")
    console.print(f"the goal against a local server is {GOAL:g} times")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
