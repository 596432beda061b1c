"""One request to a real receiver, and what the variables name."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from observability.fastpath.destination import Destination, Outcome, Signal
from tests.observability.fastpath.receiver import PROTOBUF, Answer, Receiver

BODY = b"\x0a\x00"


def _traces(receiver: Receiver) -> Destination:
    return Destination(Signal.TRACES, f"{receiver.url}/v1/traces")


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (401, False), (404, False), (408, False), (413, False), (500, False), (302, False), (304, False)]
    + [(status, True) for status in (429, 502, 503, 504)],
)
def test_statuses(receiver: Receiver, status: int, retryable: bool) -> None:
    """Only those that OTLP names are tried again, and a redirect is no success."""
    receiver.answers.append(Answer(status, {"location": "/login"}))
    outcome = _traces(receiver).post(BODY, 5)
    assert (outcome.error, outcome.retryable, outcome.retry_after_s) == (str(status), retryable, None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(200), None),
        (Answer(204), None),
        (Answer(200, {"content-type": "application/json"}, b"{}"), None),
        (Answer(200, {"content-type": "text/html; charset=utf-8"}, b"<p>log in"), "text/html"),
        (Answer(200, PROTOBUF, b"\xff"), "DecodeError"),
    ],
)
def test_what_counts_as_success(receiver: Receiver, answer: Answer, error: str | None) -> None:
    """An answer of OTLP, and not a page to log in."""
    receiver.answers.append(answer)
    assert _traces(receiver).post(BODY, 5).error == error


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("7", 7.0), (" 0 ", 0.0), ("soon", None), ("-1", None), ("inf", None)),
        *(("86400", 3600.0), ("9" * 400, 3600.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0)),
    ],
)
def test_retry_after(receiver: Receiver, value: str, seconds: float | None) -> None:
    """Seconds are read, of an hour at most; what is no number of them is no wish."""
    receiver.answers.append(Answer(503, {"retry-after": value}))
    assert _traces(receiver).post(BODY, 5).retry_after_s == seconds


def test_retry_after_date(receiver: Receiver) -> None:
    """A date is read too."""
    receiver.answers.append(Answer(503, {"retry-after": format_datetime(datetime.now(UTC) + timedelta(minutes=1))}))
    asked = _traces(receiver).post(BODY, 5).retry_after_s
    assert asked is not None
    assert 50 < asked <= 60


def test_partial_success(receiver: Receiver) -> None:
    """How many the receiver did not want is told, of both signals."""
    spans = ExportTracePartialSuccess(rejected_spans=3, error_message="no room")
    records = ExportLogsPartialSuccess(rejected_log_records=2, error_message="too old")
    receiver.answers += [
        Answer(200, PROTOBUF, ExportTraceServiceResponse(partial_success=spans).SerializeToString()),
        Answer(200, PROTOBUF, ExportLogsServiceResponse(partial_success=records).SerializeToString()),
    ]
    assert _traces(receiver).post(BODY, 5) == Outcome(rejected=3, message="no room")
    assert Destination(Signal.LOGS, receiver.url).post(BODY, 5) == Outcome(rejected=2, message="too old")


def test_nobody_listens() -> None:
    """A refused connection is tried again later."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = Destination(Signal.TRACES, f"http://127.0.0.1:{taken.getsockname()[1]}").post(BODY, 5)
    assert (outcome.error, outcome.retryable) == ("ConnectionError", True)


def test_no_answer(receiver: Receiver) -> None:
    """A receiver that never answers holds a request no longer than its time."""
    receiver.go_on.clear()
    outcome = _traces(receiver).post(BODY, 0.1)
    assert (outcome.error, outcome.retryable) == ("ReadTimeout", True)


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
def test_impossible_address(url: str) -> None:
    """An address that cannot be is an error, and no exception."""
    outcome = Destination(Signal.TRACES, url).post(BODY, 1)
    assert (outcome.error is not None, outcome.retryable) == (True, False)


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """The standard variables name the endpoint, the headers and the compression."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{receiver.url}/base/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b,authorization=Bearer abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    destination = Destination.from_environment(Signal.LOGS)
    assert destination is not None
    assert destination.post(destination.compress(BODY), 5).error is None
    headers, body = receiver.requests[0]
    assert (headers["path"], body) == ("/base/v1/logs", BODY)
    assert (headers["x-team"], headers["authorization"]) == ("a b", "Bearer abc")
    assert headers["content-type"] == "application/x-protobuf"
    assert headers.get("content-encoding", "none") == compression


def test_variables_of_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """They win over those of all signals, and the endpoint is taken as it is."""
    for name, value in {
        "ENDPOINT": "http://all:4318",
        "TRACES_ENDPOINT": "https://one/x",
        "TIMEOUT": "3",
        "TRACES_TIMEOUT": "4.5",
        "CERTIFICATE": "/ca.pem",
        "CLIENT_CERTIFICATE": "/c.pem",
        "CLIENT_KEY": "/k.pem",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    destination = Destination.from_environment(Signal.TRACES)
    assert destination is not None
    assert (destination.url, destination.timeout_s) == ("https://one/x", 4.5)
    _, options = destination._prepare()
    assert (options["verify"], options["cert"]) == ("/ca.pem", ("/c.pem", "/k.pem"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "mine"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "mine"),
    ],
)
def test_not_covered(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """What is not covered is left to the official exporter."""
    monkeypatch.setenv(variable, value)
    assert Destination.from_environment(Signal.TRACES) is None


def test_one_after_the_other(receiver: Receiver) -> None:
    """Each request has its own body, and the cookies that the receiver has set by then."""
    destination = _traces(receiver)
    receiver.answers += [Answer(), Answer(200, PROTOBUF | {"set-cookie": "node=7"}), Answer()]
    bodies = [b"", b"\x0a\x00", b"\x0a\x00\x0a\x00"]
    assert [destination.post(body, 5).error for body in bodies] == [None] * 3
    assert [body for _, body in receiver.requests] == bodies
    assert [headers.get("cookie") for headers, _ in receiver.requests] == [None, None, "node=7"]


def test_proxy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is used, and none for hosts that it excepts."""
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert Destination(Signal.TRACES, "http://collector.invalid/v1/traces").post(BODY, 5).error is None
    assert _traces(receiver).post(BODY, 5).error is None
    assert [headers["path"] for headers, _ in receiver.requests] == ["http://collector.invalid/v1/traces", "/v1/traces"]
