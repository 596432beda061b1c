"""Log records as bytes: what the official encoder makes of them, with the secrets cut out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as EncodedRecord
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from observability.export import ScrubbingLogExporter
from observability.fastpath.logs import LogEncoder
from observability.fastpath.origin import Origins, request
from tests.observability.fastpath.values import ATTRIBUTES, CLEAN_TEXTS, CLEAN_VALUES

TIMES = st.integers(0, (1 << 64) - 1)
IN_SPAN = set_span_in_context(
    NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))), Context()
)
RESOURCES = [Resource({"service.name": "s"}), Resource({}, "https://opentelemetry.io/schemas/1.40.0")]


@pytest.fixture(autouse=True, scope="module")
def _silence() -> Iterator[None]:
    """What is logged of lone surrogates cannot be sent between the processes of a test run."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


class Kept(LogRecordExporter):
    """Keeps what is exported."""

    def __init__(self) -> None:
        self.records: list[ReadableLogRecord] = []

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Keep them."""
        self.records.extend(batch)
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        """Nothing to do."""
        return True


@st.composite
def emitted(draw: st.DrawFn) -> ReadWriteLogRecord:
    """A record as a logger hands it to its processors, with whatever the API takes."""
    record = LogRecord(
        timestamp=draw(st.none() | TIMES),
        observed_timestamp=draw(TIMES),
        context=draw(
            st.sampled_from([IN_SPAN, set_span_in_context(NonRecordingSpan(SpanContext(0, 0, False)), Context())])
        ),
        severity_text=draw(st.sampled_from([None, "", "INFO"])),
        severity_number=draw(st.none() | st.sampled_from(SeverityNumber)),
        body=draw(CLEAN_VALUES | st.just("password=canary")),
        attributes=draw(ATTRIBUTES),
        event_name=draw(st.none() | CLEAN_TEXTS),
    )
    return ReadWriteLogRecord(
        record,
        draw(st.sampled_from(RESOURCES)),
        draw(st.sampled_from([None, InstrumentationScope("a"), InstrumentationScope("b", "1", "s", {"scope": 1})])),
        LogRecordLimits(max_attributes=128, max_attribute_length=draw(st.sampled_from([0, 3, 128]))),
    )


def _decoded(encoded: bytes) -> str:
    """The request as text, which also compares numbers that are none."""
    return str(ExportLogsServiceRequest.FromString(encoded))


ENCODER = LogEncoder()
"""One for all examples, so that what it remembers is put to the test too."""


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
@given(st.lists(emitted(), min_size=1, max_size=3))
def test_parity(records: list[ReadWriteLogRecord]) -> None:
    """The bytes decode to what the official encoder makes of the same records once the secrets are cut out of them."""
    scrubbed = Kept()
    ScrubbingLogExporter(scrubbed).export(
        [
            ReadableLogRecord(one.log_record, one.resource or RESOURCES[0], one.instrumentation_scope, one.limits)
            for one in records
        ]
    )
    expected = encode_logs(scrubbed.records).SerializeToString()
    origins = Origins()
    encoded = request(
        (origins.of(one.resource or RESOURCES[0], one.instrumentation_scope), ENCODER.encode(one)) for one in records
    )
    assert _decoded(encoded) == _decoded(expected)


def test_secrets() -> None:
    """Bytes hold no secret, neither of a text nor of a mapping, also when the same comes again."""
    encoder = LogEncoder()
    for body in ("password=canary", {"password": "canary"}) * 2:
        record = ReadWriteLogRecord(LogRecord(body=body, attributes={"url.full": "https://u:canary@host/"}))
        assert b"canary" not in encoder.encode(record)


def test_body_with_lone_surrogates() -> None:
    """A lone surrogate, for which the official encoder gives up the whole batch, becomes a question mark."""
    encoded = LogEncoder().encode(ReadWriteLogRecord(LogRecord(body="a\ud800")))
    assert EncodedRecord.FromString(encoded).body.string_value == "a?"


def test_impossible_body() -> None:
    """A body that OTLP has no form for is an error, for whoever encodes to count."""
    with pytest.raises(TypeError, match="no values of type object"):
        LogEncoder().encode(ReadWriteLogRecord(LogRecord(body=object())))  # type: ignore[call-overload]
