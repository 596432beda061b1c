"""The log line that each request has."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from observability.line import Line

MESSAGE, ARGUMENTS, ATTRIBUTES = "%s took %d ms", ("it", 3), {"http.request.method": "GET"}

pytestmark = pytest.mark.anyio


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of its own."""
    logger = logging.getLogger("test.line")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def kept(logger: logging.Logger) -> list[logging.LogRecord]:
    """What it logs."""
    handler = _Kept()
    logger.addHandler(handler)
    return handler.records


def _log_twice(logger: logging.Logger, level: int, error: BaseException | None = None) -> None:
    """The second one is made by what was remembered of the first; the third by Python."""
    line = Line(logger, MESSAGE)
    for _ in range(2):
        line.log(level, ARGUMENTS, ATTRIBUTES, error)
    logger.log(level, MESSAGE, *ARGUMENTS, extra=ATTRIBUTES, exc_info=error)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, 25])
@pytest.mark.parametrize("with_error", [False, True])
async def test_as_python_makes_them(
    logger: logging.Logger, kept: list[logging.LogRecord], level: int, with_error: bool
) -> None:
    """A record has what Python's own one has, but for the line of the call and the time."""
    _log_twice(logger, level, RuntimeError() if with_error else None)
    first, second, python = (dict(vars(record)) for record in kept)
    for fields in (first, second, python):
        assert fields.pop("lineno") > 0
        assert fields.pop("created") * 1000 % 1000 == pytest.approx(fields.pop("msecs"), abs=1.0)
        assert fields.pop("relativeCreated") > 0
    assert first == second == python
    assert python["funcName"] == "_log_twice"
    assert kept[1].getMessage() == "it took 3 ms"
    assert kept[0].created <= kept[1].created <= kept[2].created
    assert kept[0].relativeCreated <= kept[1].relativeCreated <= kept[2].relativeCreated


async def test_names_of_the_caller(logger: logging.Logger, kept: list[logging.LogRecord]) -> None:
    """Thread and task are those of the call, and not those of the first one."""
    line = Line(logger, MESSAGE)

    async def log() -> None:
        line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)

    for name in ("one", "two"):
        await asyncio.create_task(log(), name=name)
    thread = threading.Thread(target=line.log, args=(logging.INFO, ARGUMENTS, ATTRIBUTES), name="other")
    thread.start()
    thread.join()
    assert [record.threadName for record in kept] == ["MainThread", "MainThread", "other"]
    assert kept[2].thread == thread.ident
    if hasattr(kept[0], "taskName"):
        assert [vars(record)["taskName"] for record in kept] == ["one", "two", None]


async def test_below_the_level(logger: logging.Logger, kept: list[logging.LogRecord]) -> None:
    """What is below the logger's level is not logged."""
    line = Line(logger, MESSAGE)
    logger.setLevel(logging.WARNING)
    line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)
    assert kept == []


async def test_own_factory(
    logger: logging.Logger, kept: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory of the application's own makes the records."""

    class Own(logging.LogRecord):
        pass

    line = Line(logger, MESSAGE)
    line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)
    monkeypatch.setattr(logging, "_logRecordFactory", Own)
    line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)
    assert [type(record) for record in kept] == [logging.LogRecord, Own]


async def test_forked(logger: logging.Logger, kept: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process the record names that one."""
    line = Line(logger, MESSAGE)
    line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    line.log(logging.INFO, ARGUMENTS, ATTRIBUTES)
    assert [record.process for record in kept] == [own, own + 1]
