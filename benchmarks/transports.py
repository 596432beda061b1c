"""What a call costs over each transport: calls per second against a tiny server on another core, as ratios of one run.

    .venv/bin/python benchmarks/transports.py [seconds of each turn, 0.5 unless told]

The transports take turns, so that whatever else the machine does slows them alike; a row shows the median of its turns.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import httpx
import uvloop
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.sdk.trace import TracerProvider

sys.path.insert(0, str(Path(__file__).parents[1]))

from observability.resilience.transport import AiohttpTransport

CONCURRENCY = 16
TURNS = 9
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"status":"ok"}'

Call = Callable[[], Awaitable[object]]


class Answering(asyncio.Protocol):
    """The server's side of a connection: one fixed answer to each head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what the answer is written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    """Serve on a free port, which is printed, until this process is killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def rate(call: Call, seconds: float) -> float:
    """Call from many tasks for some seconds; calls per second."""
    end = time.perf_counter() + seconds

    async def caller() -> int:
        calls = 0
        while time.perf_counter() < end:
            await call()
            calls += 1
        return calls

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller()) for _ in range(CONCURRENCY)]
    return sum(task.result() for task in tasks) / (time.perf_counter() - start)


async def compare(url: str, seconds: float) -> dict[str, float]:
    """The median rate of each transport."""
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    provider = TracerProvider()

    def bare() -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(limits=limits)

    def ours() -> AiohttpTransport:
        return AiohttpTransport(max_connections=CONCURRENCY)

    async with AsyncExitStack() as stack:

        async def over(transport: httpx.AsyncBaseTransport) -> Call:
            client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, trust_env=False))
            return lambda: client.get(url)

        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def plain() -> None:
            async with session.get(url) as response:
                await response.read()

        calls: dict[str, Call] = {
            "httpx": await over(bare()),
            "ours": await over(ours()),
            "httpx, instrumented": await over(AsyncOpenTelemetryTransport(bare(), provider)),
            "ours, instrumented": await over(AsyncOpenTelemetryTransport(ours(), provider)),
            "aiohttp itself": plain,
        }
        for call in calls.values():
            await rate(call, seconds / 5)  # connections are made, caches filled
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(TURNS):
            for name, call in calls.items():
                rates[name].append(await rate(call, seconds))
    return {name: statistics.median(some) for name, some in rates.items()}


def main() -> None:
    """Print the table."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(server.pid, {cores[-1]})
        os.sched_setaffinity(0, {cores[0]})
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        for loop_name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
            with asyncio.Runner(loop_factory=factory) as runner:
                rates = runner.run(compare(url, seconds))
            print(f"\n{loop_name:<22}{'calls/s':>10}{'us/call':>10}{'of httpx':>10}")
            for name, value in rates.items():
                print(f"{name:<22}{value:>10,.0f}{1e6 / value:>10,.0f}{value / rates['httpx']:>9.2f}x")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
