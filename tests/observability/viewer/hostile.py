"""Inputs for the receivers that were requests once: broken, cut, spliced, blown up, in every form that is taken."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.observability.viewer.samples import (
    START_NS,
    as_json,
    deep,
    failed,
    log_request,
    nested,
    notice,
    number,
    request,
    span_id,
    text,
    trace_id,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STRANGE = (b"", b"\x00", b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\xff\xff\xff\x7f", b"\x0a", b"\x12\x00" * 1000)
_STRANGE_VALUES: Sequence[Any] = (
    *(None, True, 0, -1, 2**63, 2**64, -(2**70), 1e308, -0.0, "", "0", "NaN", "Infinity", "9" * 400, "x" * 5000),
    *("\ud800", "\0", "<script>", "../..", "0" * 32, "f" * 32, "f" * 16, [], {}, [[]], [None], {"": {}}),
)
_SIGNALS = ("traces", "logs", "metrics")


@dataclass(frozen=True, slots=True)
class Input:
    """A request: its signal, its body as it is and as it is sent, and the headers that say what it is."""

    signal: str
    plain: bytes
    body: bytes
    content_type: str
    encoding: str


def inputs(seed: int, count: int) -> Iterator[Input]:
    """So many of them, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - the same each time is what is wanted
    corpus = [(signal, message.SerializeToString(), as_json(message)) for signal, message in _corpus()]
    for _ in range(count):
        signal, protobuf, as_text = chance.choice(corpus)
        if chance.random() < 0.1:
            signal = chance.choice(_SIGNALS)  # what was meant for another one
        if chance.random() < 0.5:
            content_type, plain = "application/x-protobuf", _broken(chance, protobuf, chance.choice(corpus)[1])
        elif chance.random() < 0.5:
            content_type, plain = "application/json", _broken(chance, as_text, chance.choice(corpus)[2])
        else:
            content_type, plain = "application/json", _strange(chance, as_text)
        encoding, body = "identity", plain
        if chance.random() < 0.3:
            encoding = chance.choice(("gzip", "zstd"))
            body = gzip.compress(plain, 1) if encoding == "gzip" else zstd.compress(plain, 1)
            if chance.random() < 0.5:
                body = _broken(chance, body, body)
        yield Input(signal, plain, body, content_type, encoding)


def _broken(chance: random.Random, body: bytes, other: bytes) -> bytes:
    """A body with some of its bytes changed, or none."""
    found = bytearray(body)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 8))):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(6):
            case 0:
                del found[at:]
            case 1:
                del found[at : at + chance.randrange(20)]
            case 2:
                found[at:at] = chance.choice(_STRANGE)
            case 3:
                start = chance.randrange(len(other) + 1)
                found[at:at] = other[start : start + chance.randrange(200)]
            case 4:
                found[at:at] = found[at : at + chance.randrange(50)] * chance.randrange(20)
            case _ if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
    return bytes(found)


def _strange(chance: random.Random, body: bytes) -> bytes:
    """A body in JSON with some of its values, or names, in the place of which stand others."""
    found = json.loads(body)
    for _ in range(chance.choice((1, 1, 2, 5))):
        places = list(_places(found))
        if not places:
            break
        holder, key = chance.choice(places)
        if isinstance(holder, dict) and chance.random() < 0.2:
            holder[chance.choice(("", "traceId", "kvlistValue", "x"))] = holder.pop(key)
        else:
            holder[key] = deepcopy(chance.choice(_STRANGE_VALUES))
    return json.dumps(found).encode()


def _places(found: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(found, dict | list):
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            yield found, key
            yield from _places(value)


def _corpus() -> Iterator[tuple[str, Message]]:
    yield "traces", nested(1, ["root", "child", "grandchild"])
    values = [
        AnyValue(),
        AnyValue(string_value="ä\u202e<img src=x onerror=alert(1)>"),
        AnyValue(bool_value=True),
        AnyValue(int_value=-(2**63)),
        AnyValue(double_value=float("inf")),
        AnyValue(bytes_value=b"\x00\xff"),
        deep(20),
    ]
    attributes = [KeyValue(key=f"key {index}", value=value) for index, value in enumerate(values)]
    events = [Span.Event(name="event", time_unix_nano=START_NS, attributes=attributes)]
    links = [Span.Link(trace_id=trace_id(2), span_id=span_id(1), attributes=attributes)]
    yield (
        "traces",
        request(
            [
                Span(
                    trace_id=trace_id(index),
                    span_id=span_id(index),
                    name="rich",
                    kind=Span.SPAN_KIND_CLIENT,
                    start_time_unix_nano=START_NS,
                    end_time_unix_nano=START_NS + 5,
                    attributes=attributes,
                    events=events,
                    links=links,
                    status=failed("it failed"),
                )
                for index in range(1, 4)
            ]
        ),
    )
    record = LogRecord(trace_id=trace_id(1), span_id=span_id(1), time_unix_nano=START_NS, severity_text="INFO")
    record.body.CopyFrom(deep(3))
    record.attributes.extend(attributes)
    yield "logs", log_request(record, LogRecord(severity_text="WARN"))
    yield "logs", log_request(notice(1, 9, 1, attributes=attributes), record)
    yield "metrics", _metrics()


def _metrics() -> ExportMetricsServiceRequest:
    """One of each kind."""
    message = ExportMetricsServiceRequest()
    resource = message.resource_metrics.add()
    resource.resource.attributes.append(text("service.name", "orders"))
    times = {"start_time_unix_nano": START_NS, "time_unix_nano": START_NS + 1}
    exemplar = Exemplar(trace_id=trace_id(1), span_id=span_id(1), as_double=0.5, filtered_attributes=[number("a", 1)])
    point = NumberDataPoint(as_int=5, attributes=[text("route", "/")], exemplars=[exemplar], **times)
    gauge, total, histogram, exponential, summary = (Metric(name=f"metric {index}", unit="s") for index in range(5))
    gauge.gauge.data_points.append(point)
    total.sum.data_points.append(point)
    histogram.histogram.data_points.add(count=3, sum=1.5, bucket_counts=[1, 2], explicit_bounds=[0.5], **times)
    exponential.exponential_histogram.data_points.add(count=3, scale=2, zero_count=1, **times).positive.bucket_counts[
        :
    ] = [2]
    summary.summary.data_points.add(count=3, sum=1.5, **times).quantile_values.add(quantile=0.5, value=1)
    resource.scope_metrics.add().metrics.extend([gauge, total, histogram, exponential, summary])
    return message
