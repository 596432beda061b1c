"""The services' own metrics, as they send them: an OTLP receiver that keeps the last value of each series."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

EXPORT_INTERVAL_S = 0.5

Attributes = frozenset[tuple[str, str]]


@dataclass
class Metrics:
    """The last values: of a counter and a gauge its number, of a histogram how much was counted."""

    url: str = ""
    _values: dict[tuple[str, str, str, Attributes], float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def sum(self, service: str, name: str, **attributes: str) -> float:
        """The sum of a metric's series that have these attributes, of all processes that a service has had.

        Dots of the attributes' names are written `__`.
        """
        wanted = {(key.replace("__", "."), value) for key, value in attributes.items()}
        return sum(
            value
            for (of, _, metric, series), value in self._values.items()
            if (of, metric) == (service, name) and wanted <= series
        )

    def by(self, service: str, name: str, attribute: str, **attributes: str) -> dict[str, float]:
        """The same for each value of one attribute."""
        found = {
            value
            for of, _, metric, series in self._values
            if (of, metric) == (service, name)
            for key, value in series
            if key == attribute
        }
        return {
            value: self.sum(service, name, **{attribute.replace(".", "__"): value}, **attributes) for value in found
        }

    async def fresh(self, service: str, *, timeout_s: float = 10.0) -> None:
        """Wait until a service has told what it counted up to now.

        Raises:
            TimeoutError: It has not.
        """
        now = time.time()
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self._told.get(service, 0.0) >= now)

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Listen at `url` for as long as the block lasts."""
        app = Starlette(routes=[Route("/v1/metrics", self._receive, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/metrics"
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield
            finally:
                server.should_exit = True
                await task

    async def _receive(self, request: Request) -> Response:
        message = ExportMetricsServiceRequest.FromString(await request.body())
        for resource_metrics in message.resource_metrics:
            resource = _attributes(resource_metrics.resource.attributes)
            service, instance = resource["service.name"], resource["service.instance.id"]
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    # Of a gauge there is only the last value, whichever process it was that told it.
                    of = "" if metric.HasField("gauge") else instance
                    for point, value in _points(metric):
                        series = frozenset(_attributes(point.attributes).items())
                        self._values[service, of, metric.name, series] = value
                        self._told[service] = point.time_unix_nano / 1e9
        async with self._news:
            self._news.notify_all()
        return Response(media_type="application/x-protobuf")


def _points(metric: Metric) -> Iterator[tuple[NumberDataPoint | HistogramDataPoint, float]]:
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        yield number, number.as_double if number.HasField("as_double") else float(number.as_int)
    for histogram in metric.histogram.data_points:
        yield histogram, float(histogram.count)


def _attributes(attributes: Iterable[KeyValue]) -> Mapping[str, str]:
    return {one.key: str(getattr(one.value, one.value.WhichOneof("value") or "string_value")) for one in attributes}
