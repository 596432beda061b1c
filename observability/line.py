"""A log line that each request has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import MethodType
from typing import Any, Final

TakeLine = Callable[[logging.Handler, str, int, str, tuple[object, ...], dict[str, Any]], bool]
"""A method of handlers that takes a logger's name, a level, a message, its arguments and attributes, or says False."""

_PARTS: Final = ("log", "_log", "makeRecord", "handle", "callHandlers")
_PYTHONS: Final = vars(logging)


class Line:
    """Logs lines from one place in the code.

    Where the kit's own handler is all that listens, it is told what the line says without a record of `logging`, which
    takes as long to make, to hand on and to take apart again as everything else that becomes of it. To whatever else
    may see or change a record (a handler, a filter, a factory of records, an error tracker that has replaced a part of
    `logging`) it is an ordinary one.
    """

    def __init__(self, logger: logging.Logger, message: str) -> None:
        """Log with a logger.

        Args:
            logger: Takes the records.
            message: With places for two arguments at least.
        """
        self._logger = logger
        self._message = message

    def log(
        self,
        level: int,
        arguments: tuple[object, ...],
        attributes: dict[str, Any],
        error: BaseException | None = None,
    ) -> None:
        """Log a line as `Logger.log` does.

        Args:
            level: Its severity.
            arguments: What the message has places for.
            attributes: Texts and numbers, of other names than those that each record has; the handler may add some.
            error: An exception whose stack belongs to it.
        """
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        if error is None and (found := self._listener(level)) is not None:
            handler, take_line = found
            if take_line(handler, logger.name, level, self._message, arguments, attributes):
                return
        logger.log(level, self._message, *arguments, exc_info=error, extra=attributes, stacklevel=2)

    def _listener(self, level: int) -> tuple[logging.Handler, TakeLine] | None:
        """The handler that alone listens, with its method, if it has one and nothing of it is replaced."""
        logger: logging.Logger | None = self._logger
        if self._logger.filters or logging.getLogRecordFactory() is not logging.LogRecord or _is_replaced(self._logger):
            return None
        found: logging.Handler | None = None
        while logger is not None:
            for handler in logger.handlers:
                if found is not None:
                    return None
                found = handler
            logger = logger.parent if logger.propagate else None
        if found is None or found.filters or level < found.level:
            return None
        # Of its own class alone, since one below that may emit records otherwise.
        take_line = vars(type(found)).get("take_line")
        if take_line is None or "emit" in (own := vars(found)) or "handle" in own:
            return None
        return found, take_line


def _is_replaced(logger: logging.Logger) -> bool:
    """Whether a part of `logging` is not Python's own, which what wraps it may claim to be in nearly all else."""
    for part in _PARTS:
        found = getattr(logger, part)
        if type(found) is not MethodType or found.__func__.__globals__ is not _PYTHONS:
            return True
    return False
