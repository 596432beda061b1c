"""Metrics of the process itself: CPU, memory, threads, file descriptors, garbage collection, event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.metrics import Meter

from observability.providers import Telemetry
from observability.tasks import running_task
from observability.telemetry import EVENT_LOOP_LAG, EVENT_LOOP_TASKS

_LAG_INTERVAL_S = 0.25
_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# Of this process only: what belongs to the machine is its own exporter's to tell.
_PROCESS_METRICS: dict[str, list[str] | None] = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
    "process.context_switches": ["involuntary", "voluntary"],
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
    "cpython.gc.uncollectable_objects": None,
}


@asynccontextmanager
async def observe_runtime(telemetry: Telemetry) -> AsyncIterator[None]:
    """Report on the process and the running event loop for as long as the block lasts."""
    # One process, one reporter: the instrumentor is a singleton, and a second service in a test's process adds nothing.
    process = SystemMetricsInstrumentor(config=_PROCESS_METRICS)
    first = not process.is_instrumented_by_opentelemetry
    if first:
        process.instrument(meter_provider=telemetry.meter_provider)
    try:
        async with running_task(_measure(telemetry.meter_provider.get_meter(__name__)), "event-loop-lag"):
            yield
    finally:
        if first:
            process.uninstrument()


async def _measure(meter: Meter) -> None:
    lag = meter.create_histogram(*EVENT_LOOP_LAG, explicit_bucket_boundaries_advisory=_LAG_BUCKETS_S)
    tasks = meter.create_gauge(*EVENT_LOOP_TASKS)
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time() + _LAG_INTERVAL_S
        await asyncio.sleep(_LAG_INTERVAL_S)
        lag.record(max(0.0, loop.time() - asked))
        tasks.set(len(asyncio.all_tasks()))
