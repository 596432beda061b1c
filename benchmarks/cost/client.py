"""`python -m benchmarks.cost.client VARIANT URL`: one variant's client; calls the URL when it is told to.

Each line of its input has a number of callers and of seconds; for each it prints a line of JSON, a `Load`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

BODY = b'{"status":"ok"}'


async def call(client: httpx.AsyncClient, url: str, callers: int, seconds: float) -> dict[str, Any]:
    """Call from so many tasks for so long.

    Raises:
        ValueError: An answer is not the right one.
    """
    latencies: list[int] = []
    start, busy = time.perf_counter_ns(), time.process_time()
    end = start + int(seconds * 1e9)

    async def caller() -> None:
        now = time.perf_counter_ns()
        while now < end:
            began = now
            response = await client.get(url)
            if response.status_code != 200 or response.content != BODY:  # noqa: PLR2004 - OK
                raise ValueError(f"not the answer that was expected: {response}")
            now = time.perf_counter_ns()
            latencies.append(now - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    took_s = (time.perf_counter_ns() - start) / 1e9
    return {"latencies_ns": sorted(latencies), "took_s": took_s, "busy_s": time.process_time() - busy}


async def main(client: httpx.AsyncClient, url: str, results: Any) -> None:  # noqa: ANN401 - a text file
    """Do what the input says until it ends."""
    async with client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            callers, seconds = line.split()
            print(json.dumps(await call(client, url, int(callers), float(seconds))), file=results, flush=True)


if __name__ == "__main__":
    variant, url = sys.argv[1:]
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the variant logs is none of the results
    module = import_module(f"benchmarks.variants.{variant}")
    import uvloop  # after the variant, which may patch what is imported later

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(module.create_client(), url, results))
