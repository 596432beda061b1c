"""Plain log records past the SDK: the same telemetry as its own way gives."""

from __future__ import annotations

import io
import itertools
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs._internal import _LoggerConfig
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    use_span,
)

from observability import log_lines, providers, requests
from observability.fastpath.origin import request
from observability.fastpath.processors import EncodingLogProcessor
from observability.fastpath.records import Records
from observability.log_lines import JsonFormatter
from observability.logs import Export, RootHandler
from tests.observability.fastpath.pairs import KeptBytes
from tests.observability.fastpath.values import ATTRIBUTES, TEXTS

Call = Callable[[logging.Logger], None]


class _Kept(KeptBytes):
    """Keeps what it is handed, and counts what came past the SDK."""

    def __init__(self) -> None:
        super().__init__()
        self.past_the_sdk = 0

    def created(self) -> None:
        """Count it."""
        self.past_the_sdk += 1

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - the interface's
        """Nothing to do."""
        return True

    def decoded(self) -> str:
        """What would be sent, without the times of observation, and with numbers that are none."""
        message = ExportLogsServiceRequest.FromString(request(self.entries))
        for resource in message.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    assert record.observed_time_unix_nano > 1e18
                    record.observed_time_unix_nano = 0
        return str(message)


class Way:
    """A root handler with the shortcut, or without, and all that it has told."""

    def __init__(self, *, short: bool) -> None:
        self.sender, self.stream = _Kept(), io.StringIO()
        self.provider = LoggerProvider(Resource({"service.name": "s"}), shutdown_on_exit=False)
        self.provider.add_log_record_processor(EncodingLogProcessor(self.sender))
        records = Records.of(self.provider)
        assert records is not None
        self.records = records
        self.handler = RootHandler(
            self.stream, JsonFormatter("s"), Export(self.provider, records.add if short else None)
        )


class Both:
    """The same records on both ways."""

    def __init__(self) -> None:
        self.short, self.sdk = Way(short=True), Way(short=False)
        self.logger = logging.Logger("app")  # noqa: LOG001 - nobody else's
        self.logger.handlers = [self.short.handler, self.sdk.handler]
        child = logging.Logger("uvicorn.error")  # noqa: LOG001 - the same
        child.parent = self.logger
        self.loggers = [self.logger, child]

    def compare(self) -> None:
        """Hold what they told against each other."""
        assert self.short.sender.decoded() == self.sdk.sender.decoded()
        assert self.short.stream.getvalue() == self.sdk.stream.getvalue()
        assert len(self.short.sender.errors) == len(self.sdk.sender.errors)
        assert self.sdk.sender.past_the_sdk == 0


@pytest.fixture
def both() -> Both:
    """With nothing told yet."""
    return Both()


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """What is complained of lone surrogates and long values cannot be sent between the processes of a test run."""
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "observability.fastpath")]
    for logger in loggers:
        logger.disabled = True
        logger.propagate = False
    children = [logging.getLogger(name) for name in ("opentelemetry.attributes", "observability.fastpath.attributes")]
    for logger in children:
        logger.disabled = True
    yield
    for logger in [*loggers, *children]:
        logger.disabled = False
        logger.propagate = True


class Broken:
    """An argument that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("password=canary")


class Text(str):
    """A text of a type of its own."""

    __slots__ = ()


def _fail(logger: logging.Logger, **extra: object) -> None:
    try:
        raise ValueError("postgres://u:canary@host", 1)
    except ValueError:
        logger.exception("failed %s", "here", extra=extra)


CYCLE: list[object] = []
CYCLE.append(CYCLE)

PLAIN: list[Call] = [
    *(
        lambda logger, level=level: logger.log(level, "at %d", level)
        for level in (1, 5, 10, 15, 20, 25, 30, 40, 50, 60)
    ),
    lambda logger: logger.info("no arguments, and %s"),
    lambda logger: logger.info("%s %r %.2f", "a", "b", 1.005),
    lambda logger: logger.info("%(a)s", {"a": 1}),
    lambda logger: logger.info(17),
    lambda logger: logger.info(""),
    lambda logger: logger.info("x" * 200),
    lambda logger: logger.info("x" * 20_000),
    lambda logger: logger.info("é€😀\n\x1b[2J\u202e"),
    lambda logger: logger.info("lone \ud800"),
    lambda logger: logger.info("password=canary"),
    lambda logger: logger.info("https://u:canary@host/?token=canary", extra={"password": "canary", "a": 1}),
    lambda logger: logger.info("x", extra={"url.full": "https://u:canary@host/", "db.query.text": "SELECT 'canary'"}),
    lambda logger: logger.info("x", extra={"a": 1, "b": "c", "d": 1.5, "e": True, "f": None, "g": -1, "h": 1 << 40}),
    lambda logger: logger.info("x", extra={"a": True, "b": 1}),
    lambda logger: logger.info("x", extra={"a": 1, "b": True}),
    lambda logger: logger.info("x", extra={"a": float("nan"), "b": float("inf"), "c": -0.0}),
    lambda logger: logger.info("x", extra={"big": 1 << 70}),
    lambda logger: logger.info("x", extra={"a": "lone \ud800", "lone \ud800": "a"}),
    lambda logger: logger.info("x", extra={"a": "y" * 300, "k" * 200: 1.5, "k" * 120: 1.5, "k" * 100: 1.5}),
    lambda logger: logger.info("x", extra={"service": "forged", "level": "FORGED", "trace_id": "1", "span_id": "2"}),
    lambda logger: logger.info("x", extra={"exception": "forged", "clearspan.scrubbed": "forged", "password": "p"}),
    lambda logger: logger.info("x", extra={"clearspan.scrubbed": "forged"}),
    lambda logger: logger.info("x", extra={"http.route": "/mine"}),
    lambda logger: logger.info("x", extra={"color_message": "coloured", "a": 1}),
    lambda logger: logger.info("x", stack_info=True),
    lambda logger: logger.info("x", exc_info=False),
    lambda logger: logger.info("%s", Broken()),
    lambda logger: logger.info("%s %s", "too few"),  # noqa: PLE1206 - on purpose
]

OTHER: list[Call] = [
    _fail,
    lambda logger: _fail(logger, a=1, exception="forged"),
    lambda logger: logger.info("x", exc_info=True),  # noqa: LOG014 - there is none
    lambda logger: logger.info("x", extra={"path": Path("a/b"), "error": ValueError("password=canary")}),
    lambda logger: logger.info("x", extra={"a": [1, "b", None, [2.5]], "b": {"c": {"password": "canary"}}, "c": (1,)}),
    lambda logger: logger.info("x", extra={"a": b"abc", "b": b"token=canary", "c": Text("a"), "d": {1: 2, "": 3}}),
    lambda logger: logger.info("x", extra={"a": Broken()}),
    lambda logger: logger.info("x", extra={"a": CYCLE}),
    lambda logger: logger.info("x", extra={"otel.event.name": "one", "event.name": "two", "a": 1}),
    lambda logger: logger.info("x", extra={"event.name": "two"}),
    lambda logger: logger.info("x", extra={"": 1, "a": 2}),
    lambda logger: logger.info("x", extra={1: 2}),  # type: ignore[dict-item]  # the standard library takes it
    lambda logger: logger.info("x", extra={"long": "y" * 20_000}),
    lambda logger: logger.info("x", extra={f"k{number}": number for number in range(200)}),
]


class Template:
    """A route."""

    path_format = "/orders/{order_id}"


PLACES: list[Any] = [
    INVALID_SPAN,
    TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("a"),
    TracerProvider(ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t").start_span("a"),
    NonRecordingSpan(SpanContext(1, 0, is_remote=True, trace_flags=TraceFlags(1))),
]


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
@pytest.mark.parametrize("limits", [{}, {"COUNT": "2", "VALUE_LENGTH": "3"}, {"COUNT": "0"}, {"VALUE_LENGTH": ""}])
@pytest.mark.parametrize("route", [None, Template()])
def test_parity(monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], route: Template | None) -> None:
    """Whatever is logged, and wherever, gives the SDK's lines and bytes; what is plain takes the short way."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "16384")
    for name, value in limits.items():
        monkeypatch.setenv(f"OTEL_LOGRECORD_ATTRIBUTE_{name}_LIMIT", value)
    both = Both()
    token = requests._current.set({"type": "http", "route": route})
    try:
        for call, span in itertools.product(PLAIN + OTHER, PLACES):
            for logger in both.loggers:
                with use_span(span):
                    call(logger)
            call(both.logger)
        if not limits:
            assert both.short.sender.past_the_sdk == len(PLAIN) * (2 * len(PLACES) + len(PLACES))
    finally:
        requests._current.reset(token)
    both.compare()
    assert "canary" not in both.short.stream.getvalue() + both.short.sender.decoded()


BOTH = Both()
"""One for all examples, so that what it remembers is put to the test too."""


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.lists(ATTRIBUTES | st.dictionaries(st.text(), st.text() | st.integers() | st.floats()), max_size=2))
def test_parity_of_anything(message: str, extras: list[dict[str, Any]]) -> None:
    """Any text with any extras gives the same lines and bytes, also when it comes again."""
    for extra in extras * 2:
        record = logging.LogRecord("app", 20, "a.py", 1, message, (), None)
        vars(record).update({key: value for key, value in extra.items() if key not in vars(record)})
        for way in (BOTH.short, BOTH.sdk):
            way.handler.handle(record)
    BOTH.compare()
    for way in (BOTH.short, BOTH.sdk):
        way.sender.entries.clear()
        way.stream.truncate(0)


class Now:
    """A clock that stands still."""

    @staticmethod
    def time() -> float:
        """When everything is logged."""
        return 1_700_000_000.25


@pytest.mark.parametrize("limits", [{}, {"COUNT": "2", "VALUE_LENGTH": "3"}])
@pytest.mark.parametrize("route", [None, Template()])
def test_lines_without_a_record(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], route: Template | None
) -> None:
    """What is told without a record of `logging` gives the lines and bytes that a record gives, or is not taken."""
    for name, value in limits.items():
        monkeypatch.setenv(f"OTEL_LOGRECORD_ATTRIBUTE_{name}_LIMIT", value)
    monkeypatch.setattr(log_lines, "time", Now)
    both = Both()
    monkeypatch.setattr(log_lines, "current_route", lambda: getattr(route, "path_format", None))
    messages = ("GET / 200 0.3 ms", "GET /?token=canary 200 1.0 ms", "é\u202e", "x" * 20_000)
    extras: tuple[dict[str, Any], ...] = (
        {},
        {"url.path": "/", "http.response.status_code": 200, "duration": 0.1, "gone": True},
        {"password": "canary", "a": 1},
        {"service": "forged", "http.route": "/mine"},
    )
    taken = 0
    for message, extra, level, span in itertools.product(messages, extras, (logging.INFO, 35), PLACES):
        record = logging.LogRecord("app", level, "a.py", 1, message, (), None)
        record.created = Now.time()
        vars(record).update(extra)
        with use_span(span):
            if both.short.handler.take_line("app", level, message, (), dict(extra)):
                both.sdk.handler.handle(record)
                taken += 1
    assert taken == len(messages) * len(PLACES) * 2 * (len(extras) if not limits else route is None)
    both.compare()
    assert "canary" not in both.short.stream.getvalue() + both.short.sender.decoded()


class Thing:
    """What a program logs, and has done with then."""


def test_nothing_is_held() -> None:
    """What waits to be encoded holds on to no argument of its call."""
    kept: list[Any] = []
    way = Way(short=True)
    way.records._add_later = lambda _, item: kept.append(item)  # type: ignore[assignment]
    thing = Thing()
    found = weakref.ref(thing)
    way.handler.handle(logging.LogRecord("app", 20, "a.py", 1, "failed: %s", (thing,), None))
    del thing
    assert len(kept) == 1
    assert found() is None


def test_attributes_of_other_formatters(both: Both) -> None:
    """What another handler's formatter has left in a record is no extra."""
    record = logging.LogRecord("app", 20, "a.py", 1, "x", (), None)
    logging.Formatter("%(asctime)s").format(record)
    for way in (both.short, both.sdk):
        way.handler.handle(record)
    both.compare()
    assert "asctime" not in both.short.stream.getvalue() + both.short.sender.decoded()


def test_foreign_factory(both: Both) -> None:
    """A record with an attribute less and an extra more, of a program's own factory, loses no extra."""
    record = logging.LogRecord("app", 20, "a.py", 1, "x", (), None)
    del record.process
    vars(record)["mine"] = 1
    for way in (both.short, both.sdk):
        way.handler.handle(record)
    both.compare()
    assert '"mine": 1' in both.short.stream.getvalue()


def test_another_processor_later(both: Both) -> None:
    """One that is added later gets every record from then on, and the sender still does."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
    both.logger.info("before")
    both.short.provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    both.logger.info("after")
    assert [one.log_record.body for one in exporter.get_finished_logs()] == ["after"]
    assert both.short.sender.past_the_sdk == 1
    both.compare()


def test_disabled_logger(both: Both) -> None:
    """A logger that the SDK has disabled exports nothing."""
    both.logger.info("before")
    for way in (both.short, both.sdk):
        way.provider._set_logger_configurator(logger_configurator=lambda _: _LoggerConfig(is_enabled=False))
    both.logger.info("after")
    both.compare()
    assert len(both.short.sender.entries) == 1


def test_not_alone() -> None:
    """There is no short way where others get the records, too, or nobody does."""
    provider = LoggerProvider(shutdown_on_exit=False)
    assert Records.of(provider) is None
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
    for _ in range(2):
        provider.add_log_record_processor(EncodingLogProcessor(_Kept()))
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        assert Records.of(provider) is None


def test_unknown_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none, either, with an SDK whose private parts are not those that it knows."""
    provider = Way(short=True).provider
    assert Records.of(provider) is not None
    monkeypatch.setattr(provider, "_log_record_limits", None)
    assert Records.of(provider) is None
    monkeypatch.undo()
    monkeypatch.delattr(provider._multi_log_record_processor, "_log_record_processors")
    assert Records.of(provider) is None


def test_sdk_with_parts_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with one that has parts elsewhere, and nothing else depends on that."""
    provider = Way(short=True).provider
    assert providers._shortcut(provider) is not None
    monkeypatch.delitem(sys.modules, "observability.fastpath.records")
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.log_utils", None)
    assert providers._shortcut(provider) is None


def test_time_that_otlp_has_not(both: Both) -> None:
    """A record whose time cannot be encoded is counted as dropped, and its line is written."""
    record = logging.LogRecord("app", 20, "a.py", 1, "x", (), None)
    record.created = -5.0
    for way in (both.short, both.sdk):
        way.handler.handle(record)
    both.compare()
    assert len(both.short.sender.errors) == 1
    assert "1969-12-31T23:59:55" in both.short.stream.getvalue()


def test_bounded(both: Both) -> None:
    """Neither loggers nor severities are all remembered."""
    for number in range(5000):
        both.short.handler.handle(logging.LogRecord(f"l{number}", number, "a.py", 1, "x", (), None))
    assert len(both.short.records._loggers) <= 4096
    assert len(both.short.records._severities) <= 4096


def test_resource_after_fork(both: Both) -> None:
    """A forked process, whose resource is another one, tells of it."""
    both.logger.info("before")
    both.short.provider._update_resource(Resource({"process.pid": 7}))
    both.short.records._forget()
    both.logger.info("after")
    first, second = (origin.resource for origin, _ in both.short.sender.entries)
    assert b"process.pid" not in first
    assert b"process.pid" in second
