"""The log line that each request has."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import wrapt

from observability.line import Line

MESSAGE, ARGUMENTS, ATTRIBUTES = "%s took %d ms", ("it", 3), {"http.request.method": "GET"}


class Kept(logging.Handler):
    """Takes records, as every handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


class Taker(Kept):
    """Takes lines without a record too."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[object, ...]] = []
        self.wants = True

    def take_line(self, *what: object) -> bool:
        """Keep what it is told."""
        if self.wants:
            self.taken.append(what)
        return self.wants


@pytest.fixture
def root() -> logging.Logger:
    """A root logger of its own."""
    root = logging.Logger("root", logging.INFO)  # noqa: LOG001 - nobody else's
    root.parent = None
    return root


@pytest.fixture
def logger(root: logging.Logger) -> logging.Logger:
    """Whose line it is."""
    logger = logging.Logger("test.line")  # noqa: LOG001 - the same
    logger.parent = root
    return logger


@pytest.fixture
def taker(root: logging.Logger) -> Taker:
    """What alone listens."""
    taker = Taker()
    root.addHandler(taker)
    return taker


def _log(logger: logging.Logger, level: int = logging.INFO, error: BaseException | None = None) -> None:
    Line(logger, MESSAGE).log(level, ARGUMENTS, dict(ATTRIBUTES), error)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, 25])
def test_without_a_record(logger: logging.Logger, taker: Taker, level: int) -> None:
    """What alone listens, and needs no record, gets none."""
    _log(logger, level)
    assert taker.taken == [("test.line", level, MESSAGE, ARGUMENTS, ATTRIBUTES)]
    assert taker.records == []


def test_below_the_level(logger: logging.Logger, taker: Taker) -> None:
    """What is below the logger's level is not logged."""
    _log(logger, logging.DEBUG)
    assert (taker.taken, taker.records) == ([], [])


def _another_handler(logger: logging.Logger, _taker: Taker) -> None:
    logger.addHandler(Kept())


def _filter_of_the_logger(logger: logging.Logger, _taker: Taker) -> None:
    logger.addFilter(lambda _: True)


def _filter_of_the_handler(_logger: logging.Logger, taker: Taker) -> None:
    taker.addFilter(lambda _: True)


def _refuses(_logger: logging.Logger, taker: Taker) -> None:
    taker.wants = False


@pytest.mark.parametrize("change", [_another_handler, _filter_of_the_logger, _filter_of_the_handler, _refuses])
def test_with_a_record(logger: logging.Logger, taker: Taker, change: Callable[[logging.Logger, Taker], None]) -> None:
    """Where something else may see or change the record, or it is asked for, there is one."""
    change(logger, taker)
    _log(logger)
    assert (taker.taken, len(taker.records)) == ([], 1)


class Own(logging.LogRecord):
    """A record of an application's own."""


@pytest.fixture
def own_factory() -> Iterator[None]:
    """An application makes its records itself."""
    logging.setLogRecordFactory(Own)
    yield
    logging.setLogRecordFactory(logging.LogRecord)


@pytest.mark.usefixtures("own_factory")
def test_own_factory(logger: logging.Logger, taker: Taker) -> None:
    """A factory of the application's own makes the records."""
    _log(logger)
    assert [type(record) for record in taker.records] == [Own]


def _wrapped(part: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    @functools.wraps(part)
    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return part(*args, **options)

    return call


def _proxied(part: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def call(wrapped: Callable[..., Any], _owner: object, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        calls.append(args)
        return wrapped(*args, **options)

    return wrapt.FunctionWrapper(part, call)


@pytest.mark.parametrize("part", ["log", "_log", "makeRecord", "handle", "callHandlers"])
@pytest.mark.parametrize("of_all", [True, False])
@pytest.mark.parametrize("wrap", [_wrapped, _proxied])
def test_replaced_part_of_logging(  # noqa: PLR0917 - fixtures
    logger: logging.Logger,
    taker: Taker,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    of_all: bool,
    wrap: Callable[[Callable[..., Any], list[object]], Callable[..., Any]],
) -> None:
    """Whoever has replaced a part of `logging`, or of a logger, as error trackers do, sees the record."""
    owner, calls = logging.Logger if of_all else logger, list[object]()
    monkeypatch.setattr(owner, part, wrap(getattr(owner, part), calls))
    _log(logger)
    assert (taker.taken, len(taker.records), len(calls)) == ([], 1, 1)


class Heir(Taker):
    """Emits records in a way of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it twice."""
        self.records += [record, record]


def test_heir_of_the_handler(logger: logging.Logger, root: logging.Logger) -> None:
    """A class below the handler's own gets records, as it may do something else with them."""
    heir = Heir()
    root.addHandler(heir)
    _log(logger)
    assert (heir.taken, len(heir.records)) == ([], 2)


@pytest.mark.parametrize("part", ["emit", "handle"])
def test_replaced_part_of_the_handler(
    logger: logging.Logger, taker: Taker, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whoever has replaced a part of the handler sees the record."""
    calls: list[object] = []
    monkeypatch.setattr(taker, part, _wrapped(getattr(taker, part), calls))
    _log(logger)
    assert (taker.taken, len(calls)) == ([], 1)


def test_double_of_a_handler(logger: logging.Logger, root: logging.Logger) -> None:
    """A test's double, which has any method, is handed a record."""
    double = Mock(level=logging.NOTSET, filters=[])
    root.addHandler(double)
    _log(logger)
    assert isinstance(double.handle.call_args.args[0], logging.LogRecord)


def test_logger_of_another_class(root: logging.Logger, taker: Taker) -> None:
    """A class of loggers that handles records itself sees them."""
    handled = []

    class Mine(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            handled.append(record)

    logger = Mine("test.line")
    logger.parent = root
    _log(logger)
    assert (len(handled), taker.taken) == (1, [])


def test_handler_of_another_kind(logger: logging.Logger, root: logging.Logger) -> None:
    """An ordinary handler gets what Python makes: arguments, extras, and where the call stands."""
    kept = Kept()
    root.addHandler(kept)
    _log(logger)
    (record,) = kept.records
    assert (record.getMessage(), record.funcName, record.args) == ("it took 3 ms", "_log", ARGUMENTS)
    assert vars(record)["http.request.method"] == "GET"


def test_level_of_the_handler(logger: logging.Logger, taker: Taker) -> None:
    """A handler gets nothing below its own level."""
    taker.setLevel(logging.WARNING)
    _log(logger)
    _log(logger, logging.WARNING)
    assert (len(taker.taken), taker.records) == (1, [])


def test_nobody_further_up(logger: logging.Logger, taker: Taker) -> None:
    """A logger that does not propagate tells its own handlers only."""
    own = Taker()
    logger.addHandler(own)
    logger.propagate = False
    _log(logger)
    assert (len(own.taken), taker.taken, taker.records) == (1, [], [])


def test_exception(logger: logging.Logger, taker: Taker) -> None:
    """An exception has a record."""
    error = RuntimeError()
    _log(logger, logging.ERROR, error)
    (record,) = taker.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
