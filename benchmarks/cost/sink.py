"""`python -m benchmarks.cost.sink`: takes whatever telemetry is sent, and says afterwards how much it was.

OTLP over http/protobuf comes to `/<variant>/v1/<signal>`, so that variants can be told apart, and Datadog's traces come
to `/v0.5/traces`. Bodies are only kept while something is measured: they are decoded when `GET /counts` asks, or when
they have become too many. `GET /end` answers the counts too, and what the senders' own metrics say was lost; nothing
is taken after it. The port is printed: a free one, or the one that is told.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from contextlib import suppress

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.cost.datadog import count_spans

MAX_KEPT_BYTES = 256 * 1024 * 1024

_DATADOG = "/v0.5/traces"
_TELLING = {
    f"otel.sdk.{part}.{kind}.{done}"
    for part, done in (("processor", "processed"), ("exporter", "exported"))
    for kind in ("span", "log")
}
"""Counters of which each point with an `error.type` is a loss."""


class Sink:
    """What was sent, by variant."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._lost: dict[str, dict[str, float]] = defaultdict(dict)
        self._kept: list[tuple[str, bytes]] = []
        self._kept_bytes = 0
        self._ended = False

    def take(self, path: str, body: bytes, encoding: str = "") -> None:
        """Keep a request's body."""
        self._kept.append((path, gzip.decompress(body) if encoding == "gzip" else body))
        self._kept_bytes += len(self._kept[-1][1])
        if self._kept_bytes > MAX_KEPT_BYTES:
            self.counts()

    def counts(self) -> dict[str, dict[str, int]]:
        """The traces' spans, logs, metrics and bytes that each variant has sent so far."""
        for path, body in self._kept:
            if path == _DATADOG:
                self._counts["ddtrace"].update(traces=count_spans(body), bytes=len(body))
                continue
            variant, _, signal = path.strip("/").partition("/v1/")
            self._counts[variant].update({signal: _count(signal, body), "bytes": len(body)})
            if signal == "metrics":
                self._lost[variant].update(_lost(body))
        self._kept.clear()
        self._kept_bytes = 0
        return {variant: dict(counted) for variant, counted in self._counts.items()}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                headers = {name.lower(): value for name, value in re.findall(r"\r\n([^:\r]+): *([^\r]*)", head)}
                body = await _body(reader, headers)
                if self._ended:
                    break
                if path == "/counts":
                    answer, kind = json.dumps(self.counts()).encode(), "application/json"
                elif path == "/end":
                    self._ended = True
                    answer, kind = json.dumps([self.counts(), self._lost]).encode(), "application/json"
                elif path in (_DATADOG, "/info"):
                    answer, kind = b"{}", "application/json"
                else:
                    answer, kind = b"", "application/x-protobuf"
                if method in ("POST", "PUT"):
                    self.take(path, body, headers.get("content-encoding", ""))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (kind.encode(), len(answer), answer)
                )
                await writer.drain()
        writer.close()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    chunks = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(chunks)


def _count(signal: str, body: bytes) -> int:
    match signal:
        case "traces":
            spans = ExportTraceServiceRequest.FromString(body)
            return sum(len(scope.spans) for resource in spans.resource_spans for scope in resource.scope_spans)
        case "logs":
            logs = ExportLogsServiceRequest.FromString(body)
            return sum(len(scope.log_records) for resource in logs.resource_logs for scope in resource.scope_logs)
        case "metrics":
            metrics = ExportMetricsServiceRequest.FromString(body)
            return sum(len(scope.metrics) for resource in metrics.resource_metrics for scope in resource.scope_metrics)
    return 0


def _lost(body: bytes) -> dict[str, float]:
    return {
        f"{metric.name} {attribute.value.string_value}": point.as_int
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name in _TELLING
        for point in metric.sum.data_points
        for attribute in point.attributes
        if attribute.key == "error.type"
    }


async def main() -> None:
    """Serve until this process is ended."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = await asyncio.start_server(Sink().serve, "127.0.0.1", port, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
