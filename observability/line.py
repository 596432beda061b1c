"""A log line that each request has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

Take = Callable[[str, int, str, dict[str, Any]], bool]
"""Takes a logger's name, a level, a message and attributes; says whether it does."""

_PARTS: Final = ("makeRecord", "handle", "callHandlers")


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
            arguments: Texts and numbers that the message has places for.
            attributes: Texts and numbers, of other names than those that each record has.
            error: An exception whose stack belongs to it.
        """
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        take = self._listener(level) if error is None else None
        if take is None or not take(logger.name, level, self._message % arguments, attributes):
            logger.log(level, self._message, *arguments, exc_info=error, extra=attributes, stacklevel=2)

    def _listener(self, level: int) -> Take | None:
        """What alone listens, and needs no record."""
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
        return getattr(found, "take", None)


def _is_replaced(logger: logging.Logger) -> bool:
    """Whether a part of `logging` is not Python's own."""
    for name in _PARTS:
        part = getattr(type(logger), name)
        if type(part) is not FunctionType or part.__module__ != logging.__name__:
            return True
    return False
