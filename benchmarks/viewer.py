"""`python -m benchmarks.viewer`: how fast the viewer stores spans, and how fast it finds them among a million.

The viewer runs as its users start it, on one core; the sender, on another, sends one request after the other, each of
one service, whose spans have 11 attributes and take about 400 bytes. Told are, each beside its goal

- spans stored a second, through HTTP, in requests of 512 and of 20; the viewer's time of a processor for each; its
  memory at most; spans that were accepted and are not there; bytes of disk a span;
- the times of a reader of the filled file: a trace, searches of several kinds, what the page of services needs;
- the time until the viewer listens, with the filled file.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from rich.console import Console
from rich.table import Table

from observability.viewer.query import parse
from observability.viewer.store import Store
from tests.observability.viewer.process import running_viewer

SPANS, SMALL_SPANS = 1_000_000, 100_000
LARGE, SMALL = 512, 20
REPEATS = 40

_cores = sorted(os.sched_getaffinity(0))
_TRACES, _SPANS_OF_A_TRACE = 1024, 8
# A round of requests is encoded once; for each time that it is sent, these bytes in it become others of their length,
# so that ids, times and one attribute differ: a sender that encoded as it goes would be the slower of the two.
_ID_MARK, _TEXT_MARK = b"\xa5MRK", b"0marker0"
_TIME_MARK = 0x2A4D524B
_ROUND_TICKS = 7  # the times of a round are so many times 2 ** 32 ns after those of the one before: about 30 s
_ROUTES = ("/orders", "/orders/{id}", "/orders/{id}/items", "/carts/{id}", "/prices")
_STATUSES = (200, 200, 201, 404, 503)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; a goal is the most it may be, or the least if it is negative."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is beyond its goal."""
        return self.goal is not None and (self.value > self.goal if self.goal >= 0 else self.value < -self.goal)


class Sender:
    """Requests of so many spans, in rounds of 1,024 traces."""

    def __init__(self, spans_per_request: int, first_ns: int) -> None:
        self._chance = random.Random(1)  # noqa: S311 - the same spans each time
        self._first_tick = first_ns >> 32
        self._spans: dict[str, list[Span]] = {"orders": [], "inventory": [], "payments": [], "shipping": []}
        self.trace_ids: list[bytes] = []
        for _ in range(_TRACES):
            self._trace()
        requests = [
            (position / len(spans), self._request(service, spans[position : position + spans_per_request]))
            for service, spans in self._spans.items()
            for position in range(0, len(spans), spans_per_request)
        ]
        self._requests = [body for _, body in sorted(requests, key=lambda one: one[0])]
        self.bytes_per_span = sum(map(len, self._requests)) / (_TRACES * _SPANS_OF_A_TRACE)

    def round(self, number: int) -> Iterator[bytes]:
        """The requests of one round."""
        tick = struct.pack("<I", self._first_tick + number * _ROUND_TICKS)
        for body in self._requests:
            yield (
                body.replace(_ID_MARK, number.to_bytes(4))
                .replace(_TEXT_MARK, b"%08x" % number)
                .replace(struct.pack("<I", _TIME_MARK), tick)
            )

    def trace_id(self, number: int, index: int) -> bytes:
        """The id of one trace of a round."""
        return self.trace_ids[index].replace(_ID_MARK, number.to_bytes(4))

    def _trace(self) -> None:
        trace_id = self._chance.randbytes(12) + _ID_MARK
        self.trace_ids.append(trace_id)
        route = self._chance.choice(_ROUTES)
        status = self._chance.choice(_STATUSES) if self._chance.random() < 0.05 else 200  # noqa: PLR2004 - one of twenty is none
        start = int(self._chance.random() * 3e9)
        length = int(self._chance.lognormvariate(16, 1)) % 900_000_000 + 1_000_000

        def span(service: str, name: str, kind: Span.SpanKind.ValueType, parent: bytes, depth: int) -> bytes:
            span_id = self._chance.randbytes(8)
            begin, end = start + depth * 10_000, start + length - depth * 10_000
            failed = status >= 500 and depth < 3  # noqa: PLR2004 - but not its statements
            self._spans[service].append(
                Span(
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_span_id=parent,
                    name=name,
                    kind=kind,
                    start_time_unix_nano=(_TIME_MARK << 32) + begin,
                    end_time_unix_nano=(_TIME_MARK << 32) + end,
                    status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
                    attributes=self._attributes(service, route, status),
                )
            )
            return span_id

        root = span("orders", f"POST {route}", Span.SPAN_KIND_SERVER, b"", 0)
        for service, path in (("inventory", "/reservations"), ("payments", "/charges")):
            call = span("orders", "POST", Span.SPAN_KIND_CLIENT, root, 1)
            served = span(service, f"POST {path}", Span.SPAN_KIND_SERVER, call, 2)
            if service == "inventory":
                span(service, "INSERT reservations", Span.SPAN_KIND_CLIENT, served, 3)
        sent = span("orders", "create order.placed", Span.SPAN_KIND_PRODUCER, root, 1)
        span("shipping", "process order.placed", Span.SPAN_KIND_CONSUMER, sent, 2)

    def _attributes(self, service: str, route: str, status: int) -> list[KeyValue]:
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "url.scheme": "http",
            "server.address": f"{service}.internal",
            "server.port": 8000,
            "http.route": route,
            "url.path": f"{route[:7]}/{_TEXT_MARK.decode()}-{self._chance.randrange(16**4):04x}",
            "network.protocol.version": "1.1",
            "client.address": f"10.0.{self._chance.randrange(4)}.{self._chance.randrange(64)}",
            "client.port": self._chance.randrange(32768, 61000),
            "user_agent.original": "python-httpx",
            "http.response.status_code": status,
        }
        return [
            KeyValue(
                key=key,
                value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value),
            )
            for key, value in attributes.items()
        ]

    def _request(self, service: str, spans: list[Span]) -> bytes:
        resource = Resource(
            attributes=[
                KeyValue(key=key, value=AnyValue(string_value=value))
                for key, value in {
                    "service.name": service,
                    "service.version": "1.2.3",
                    "service.instance.id": "5c6e1a8e-7d3b-4f5e-9f5b-0d7c1a2b3c4d",
                    "telemetry.sdk.language": "python",
                    "telemetry.sdk.name": "opentelemetry",
                    "telemetry.sdk.version": "1.45.1",
                    "deployment.environment.name": "benchmark",
                }.items()
            ]
        )
        scope = InstrumentationScope(name="opentelemetry.instrumentation.fastapi", version="0.66b1")
        message = ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=scope, spans=spans)])]
        )
        encoded: bytes = message.SerializeToString()
        return encoded


@contextmanager
def _viewer(folder: Path) -> Iterator[tuple[psutil.Process, int, float]]:
    """The viewer on the first core, its port of OTLP over HTTP, and the seconds until it listened."""
    began = time.perf_counter()
    with running_viewer(folder) as running:
        seconds = time.perf_counter() - began
        process = psutil.Process(running.pid)
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {_cores[0]})  # later ones have that of whoever starts them
        yield process, int(running.otlp.rpartition(":")[2]), seconds


def _peak_mib(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no peak of memory is told on this system")


def _send(sender: Sender, rounds: int, folder: Path) -> tuple[float, float, float]:
    """Send rounds; spans a second, the viewer's microseconds of a processor a span, and its memory at most in MiB."""
    spans = rounds * _TRACES * _SPANS_OF_A_TRACE
    with _viewer(folder) as (process, port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        used = sum(process.cpu_times()[:2])
        took = 0.0
        for number in range(rounds):
            bodies = list(sender.round(number))  # what a sender does besides sending is not the viewer's time
            began = time.perf_counter()
            for body in bodies:
                connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
                answer = connection.getresponse()
                partial = ExportTraceServiceResponse.FromString(answer.read()).partial_success
                if answer.status != 200 or partial.rejected_spans:  # noqa: PLR2004 - OK
                    raise RuntimeError(f"refused: {answer.status} {partial}")
            took += time.perf_counter() - began
        used = sum(process.cpu_times()[:2]) - used
        return spans / took, used / spans * 1e6, _peak_mib(process)


def _timed(name: str, goal_ms: float, call: Callable[[int], object]) -> Figure:
    times, used = [], []
    for repeat in range(REPEATS):
        began, before = time.perf_counter(), time.thread_time()
        call(repeat)
        used.append(time.thread_time() - before)
        times.append(time.perf_counter() - began)
    p95_ms, used_ms = statistics.quantiles(times, n=20)[-1] * 1e3, statistics.median(used) * 1e3
    return Figure(f"{name}, p95 (takes {used_ms:.1f} ms of a processor)", p95_ms, "ms", goal_ms)


def searches(sender: Sender, rounds: int) -> dict[str, str]:
    """Queries by what they look for."""
    path = ""
    for body in sender.round(rounds // 2):
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            path = resource_spans.scope_spans[0].spans[0].attributes[5].value.string_value
    return {
        "nothing": "",
        "service": "service=payments",
        "operation": 'operation="POST /orders/{id}"',
        "error": "error",
        "common attribute": "http.route=/prices",
        "rare attribute": f"url.path={path}",
        "duration": "duration>850ms",
        "two conditions": "service=inventory http.response.status_code=404",
        "two that never meet": 'service=shipping operation="POST /charges"',
        "inequality": "http.response.status_code>=500 service=payments",
        "denied": "NOT service=orders NOT http.response.status_code=200",
        "no such value": "http.route=/nowhere",
        "no such key": "never.sent>5",
    }


def _reading(folder: Path, sender: Sender, rounds: int) -> Iterator[Figure]:
    """What a reader of the file waits."""
    with closing(Store(folder)) as store:
        chance = random.Random(2)  # noqa: S311 - the same traces each time
        ids = [sender.trace_id(chance.randrange(rounds), chance.randrange(_TRACES)) for _ in range(REPEATS)]
        if not all(len(store.trace(one)) == _SPANS_OF_A_TRACE for one in ids):
            raise RuntimeError("a trace is not whole")
        yield _timed("a trace by its id", 20, lambda repeat: store.trace(ids[repeat]))
        for name, text in searches(sender, rounds).items():
            query = parse(text)
            found = store.find(query)
            told = f"{len(found.traces)} found" + ("" if found.complete else ", not all looked at")
            yield _timed(f"search: {name}, {told}", 100, lambda _: store.find(query))  # noqa: B023 - called before the next one

        def services(_repeat: int) -> None:
            store.operations_between(0, 2**63 - 1)
            store.calls_between(0, 2**63 - 1)

        yield _timed("the page of services", 300, services)


def _measure(requests_of: int, spans: int, folder: Path) -> Iterator[Figure]:
    sender = Sender(requests_of, time.time_ns() - 3600 * 10**9)
    rounds = max(1, round(spans / _TRACES / _SPANS_OF_A_TRACE))
    sent = rounds * _TRACES * _SPANS_OF_A_TRACE
    rate, used, memory = _send(sender, rounds, folder)
    name = f"requests of {requests_of}: "
    yield Figure(f"{name}bytes of a span as sent", sender.bytes_per_span, "bytes")
    yield Figure(f"{name}spans a second", rate, "", -40_000 if requests_of == LARGE else None)
    yield Figure(f"{name}the viewer's processor time a span", used, "µs")
    yield Figure(f"{name}memory at most", memory, "MiB", 300)
    with closing(Store(folder)) as store:
        yield Figure(f"{name}spans lost of {sent:,}", sent - store.counts()[1], "", 0)
    size = sum(file.stat().st_size for file in folder.iterdir())
    yield Figure(f"{name}disk a span", size / sent, "bytes", 250)
    for figure in _reading(folder, sender, rounds):
        yield Figure(name + figure.name, figure.value, figure.unit, figure.goal)
    with _viewer(folder) as (_, _, seconds):
        yield Figure(f"{name}start to listening", seconds, "s", 1.5)


def main() -> int:
    """Print the figures; 1 if one is beyond its goal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=SPANS, help="spans in requests of 512 (1,000,000)")
    parser.add_argument("--small-spans", type=int, default=SMALL_SPANS, help="spans in requests of 20 (100,000)")
    given = parser.parse_args()
    os.sched_setaffinity(0, {_cores[-1]})
    missed = False
    table = Table("", "figure", "goal", box=None, pad_edge=False)
    console = Console(highlight=False, width=130)
    for requests_of, spans in ((LARGE, given.spans), (SMALL, given.small_spans)):
        with tempfile.TemporaryDirectory() as folder:
            for figure in _measure(requests_of, spans, Path(folder)) if spans else ():
                goal = "" if figure.goal is None else f"{'>=' if figure.goal < 0 else '<='} {abs(figure.goal):,g}"
                table.add_row(figure.name, f"{figure.value:,.4g} {figure.unit}", goal + (" missed" * figure.missed))
                missed |= figure.missed
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
