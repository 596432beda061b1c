"""Log records as lines."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from observability import log_lines
from observability.log_lines import JsonFormatter, PrettyFormatter, escape
from observability.scrub import REDACTED, scrub_attributes, scrub_text
from observability.telemetry import SCRUBBED
from tests.observability.fastpath.values import TEXTS, values

FORGERIES = [
    "line\nfeed",
    "carriage\rreturn",
    "esc\x1b[2J",
    "c1\x9b2J",
    "ls\u2028ps\u2029",
    "bidi\u202e\u2066",
    "nul\x00",
]


def _record(message: str, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("app", logging.INFO, "app.py", 1, message, (), None)
    vars(record).update(extra)
    return record


def test_json_line() -> None:
    """A record in a span becomes one JSON object with the span's ids, the service and the extras."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        line = json.loads(JsonFormatter("orders").format(_record("placed", sku="mug", message_id=7)))
    context = span.get_span_context()
    del line["timestamp"]
    assert line == {
        "level": "INFO",
        "logger": "app",
        "message": "placed",
        "service": "orders",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "sku": "mug",
        "message_id": 7,
    }


def test_extra_does_not_replace() -> None:
    """An extra cannot take the place of a field that says where the record comes from."""
    line = json.loads(JsonFormatter("orders").format(_record("placed", service="forged", level="FORGED")))
    assert (line["service"], line["level"]) == ("orders", "INFO")


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("formatter", [JsonFormatter("s"), PrettyFormatter("s", colour=False)])
def test_forged_line(formatter: logging.Formatter, text: str) -> None:
    """Characters that could forge a line or steer a terminal are written as escapes, wherever they stand."""
    line = formatter.format(_record(f"hello {text}", **{"user": text, f"key{text}": 1}))
    assert escape(line) == line
    assert line.isprintable()


@given(st.text())
def test_any_text_is_one_line(text: str) -> None:
    """Whatever is logged is one line that can be encoded, and JSON that reads back."""
    line = JsonFormatter("s").format(_record("%s"[:0] + text, value=text))
    assert len(line.splitlines()) == 1
    assert json.loads(line.encode())["level"] == "INFO"
    assert len(PrettyFormatter("s", colour=False).format(_record(text)).encode().splitlines()) == 1


def test_pretty_is_short() -> None:
    """The pretty form shows the program's own extras, and not what the request's line says already."""
    record = _record("GET / 200", sku="mug", **{"http.request.method": "GET", "url.path": "/"})
    assert PrettyFormatter("s", colour=False).format(record).endswith("GET / 200 sku=mug")


def test_stack_is_indented() -> None:
    """A stack in the pretty form stands indented below its line, so that its text cannot pass for a record."""
    try:
        raise ValueError("first\n12:00:00.000 INFO    forged")
    except ValueError as error:
        record = _record("failed")
        record.exc_info = (type(error), error, error.__traceback__)
    first, *rest = PrettyFormatter("s", colour=False).format(record).splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("formatter", [JsonFormatter("s"), PrettyFormatter("s", colour=False)])
def test_secrets(formatter: logging.Formatter) -> None:
    """A secret in the message, an extra or a stack is not written."""
    try:
        raise ValueError("postgres://user:canary@host/db")
    except ValueError as error:
        record = _record("fetching https://user:canary@host/?token=canary", password="canary")
        record.exc_info = (type(error), error, error.__traceback__)
    assert "canary" not in formatter.format(record)


def test_numbers_that_json_lacks() -> None:
    """NaN and infinity are written as text, since no reader of JSON takes them otherwise."""
    line = JsonFormatter("s").format(_record("NaN it is", nan=float("nan"), inf=[float("-inf")]))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(line, parse_constant=refuse)
    assert (read["nan"], read["inf"], read["message"]) == ("NaN", ["-Infinity"], "NaN it is")


def test_cuts_are_named() -> None:
    """A line names what was cut from its extras, by path."""
    for secret in ("canary", 1234):
        line = json.loads(JsonFormatter("s").format(_record("x", password=secret)))
        assert (line["password"], line[SCRUBBED]) == (REDACTED, ["attributes.password"])


FORMATTER = JsonFormatter("s")
"""One for all examples, so that what it remembers is put to the test too."""


@given(
    TEXTS,
    st.dictionaries(
        st.sampled_from(["a", "url.full", "password", "service", "trace_id", "exception", SCRUBBED]) | st.text(),
        values(TEXTS, st.integers()) | st.integers(-2, 70_000),
        max_size=5,
    ),
    st.floats(0, 4e9),
)
def test_json_parts(message: str, extras: dict[str, Any], created: float) -> None:
    """A line put together of its parts is the one that `json` makes of the whole."""
    elsewhere = log_lines.STANDARD | {"getMessage", "color_message"}
    extras = {key: value for key, value in extras.items() if key not in elsewhere}
    record = _record(message, **extras)
    record.created = created
    extras, cut = scrub_attributes(extras)
    expected: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(created, UTC).isoformat(timespec="microseconds"),
        "level": "INFO",
        "logger": "app",
        "message": scrub_text(message)[0],
        "service": "s",
    }
    expected.update({key: value for key, value in extras.items() if key not in expected})
    if cut:
        expected[SCRUBBED] = sorted(cut)
    line = json.loads(FORMATTER.format(record))
    if cut:
        line[SCRUBBED].sort()
    assert line == json.loads(json.dumps(expected, default=str), parse_constant=str)


@given(st.floats(-1e9, 2e10) | st.sampled_from([-1.0, -0.5, 0.0, 1.9999996, 1.9999994, 1e9 - 1e-7]))
def test_timestamp(created: float) -> None:
    """A time is written to the microsecond, as datetime rounds it."""
    record = _record("x")
    for record.created in (created, created + 0.25, created):
        expected = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        assert json.loads(FORMATTER.format(record))["timestamp"] == expected


def test_unsafe_is_not_printable() -> None:
    """Python takes none of the characters that are escaped for a printable one, by which a safe line is known."""
    unsafe = [one for one in map(chr, range(sys.maxunicode + 1)) if re.match(log_lines._UNSAFE, one)]
    assert len(unsafe) > 2000
    assert not any(one.isprintable() for one in unsafe)


def test_remembered() -> None:
    """What is remembered has bounds, and no secret is."""
    formatter = JsonFormatter("s")
    for number in range(5000):
        formatter.format(_record("x", a=str(number), b=number, password=f"canary{number}"))
    record = _record("x", long="y" * 1000)
    record.levelname = "l"
    formatter.format(record)
    for known in (formatter._texts, formatter._ints, formatter._origins):
        assert 0 < len(known) <= 4096
    assert "canary" not in str(formatter._texts)
    assert "y" * 1000 not in str(formatter._texts)


def test_equal_values_of_other_types() -> None:
    """1, 1.0 and True are equal for Python, and not in JSON."""
    formatter = JsonFormatter("s")
    lines = [formatter.format(_record("x", a=value)) for value in (1, True, 1.0, 1)]
    assert [line[line.index('"a"') :] for line in lines] == ['"a": 1}', '"a": true}', '"a": 1.0}', '"a": 1}']


def test_coloured_message() -> None:
    """Uvicorn's second message, for terminals, is no extra."""
    record = _record("started", color_message="\x1b[1mstarted", a=1)
    assert "color" not in JsonFormatter("s").format(record)
    assert "color" not in PrettyFormatter("s", colour=False).format(record)
