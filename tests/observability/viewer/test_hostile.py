"""A short run of what `python -m tests.observability.viewer.fuzz` does at length."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from observability.viewer.encodings import INFLATE
from observability.viewer.otlp_json import to_protobuf
from observability.viewer.refusals import RefusedError
from tests.observability.viewer.hostile import inputs

MESSAGES = [ExportTraceServiceRequest, ExportLogsServiceRequest, ExportMetricsServiceRequest]
NAMES = st.text(max_size=3) | st.sampled_from(
    sorted(
        {"resourceSpans", "scopeSpans", "spans", "traceId", "spanId", "kind", "attributes", "key", "value", "links"}
        | {
            "kvlistValue",
            "arrayValue",
            "values",
            "intValue",
            "bytesValue",
            "resourceMetrics",
            "scopeMetrics",
            "metrics",
        }
        | {"gauge", "sum", "dataPoints", "exemplars", "asDouble", "resourceLogs", "scopeLogs", "logRecords", "body"}
    )
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["ab" * 8, "ab" * 16]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.anyio
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
async def test_receiver(receiver: httpx.AsyncClient, pages: httpx.AsyncClient, seed: int) -> None:
    """Whatever is sent is taken or refused as the specification says, and what was taken can be looked at."""
    for one in inputs(seed, 20):
        headers = {"content-type": one.content_type, "content-encoding": one.encoding}
        answer = await receiver.post(f"/v1/{one.signal}", content=one.body, headers=headers)
        assert answer.status_code in (200, 400, 413), one
        assert answer.headers["content-type"] == one.content_type
    found = (await pages.get("/api/find")).raise_for_status().json()
    for trace in found["traces"]:
        for path in (f"/api/recent/{trace['traceID']}", f"/api/traces/{trace['traceID']}"):
            (await pages.get(path)).raise_for_status()


@given(ANYTHING, st.sampled_from(MESSAGES))
def test_json(value: object, message: type[Any]) -> None:
    """Any JSON is a message, which protobuf itself can read, or refused."""
    with suppress(RefusedError):
        message.FromString(to_protobuf(json.dumps(value).encode(), message()))


@given(st.binary(), st.sampled_from(MESSAGES))
def test_bytes_as_json(body: bytes, message: type[Any]) -> None:
    """Any bytes are a message, which protobuf itself can read, or refused."""
    with suppress(RefusedError):
        message.FromString(to_protobuf(body, message()))


@given(st.binary(), st.sampled_from(sorted(INFLATE)))
def test_encodings(body: bytes, encoding: str) -> None:
    """Any bytes inflate, or are refused."""
    with suppress(RefusedError):
        INFLATE[encoding](body)
