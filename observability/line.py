"""A log line that each request has."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any


class Line:
    """Logs lines that differ in their arguments only, from one place in the code.

    What is the same in all their records is found out once, for each level: where the call stands, and what Python's
    own record works out of that, which takes most of its time. Exceptions, and records of a factory that the
    application has set (`logging.setLogRecordFactory`), are made by Python itself.
    """

    def __init__(self, logger: logging.Logger, message: str) -> None:
        """Log with a logger.

        Args:
            logger: Takes the records.
            message: With places for two arguments at least.
        """
        self._logger = logger
        self._message = message
        self._alike: dict[int, dict[str, Any]] = {}

    def log(
        self,
        level: int,
        arguments: tuple[object, ...],
        attributes: Mapping[str, object],
        error: BaseException | None = None,
    ) -> None:
        """Log a line as `Logger.log` does.

        Args:
            level: Its severity.
            arguments: What the message has places for.
            attributes: Further attributes of the record, of other names than those that each record has.
            error: An exception whose stack belongs to it.
        """
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        if error is not None or logging.getLogRecordFactory() is not logging.LogRecord:
            logger.log(level, self._message, *arguments, exc_info=error, extra=attributes, stacklevel=2)
            return
        alike = self._alike.get(level)
        if alike is None or alike["process"] != os.getpid():  # a forked process has another name too
            alike = self._alike[level] = vars(self._first(level, sys._getframe(1)))  # noqa: SLF001 - as logging does
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)
        fields = record.__dict__
        fields.update(alike)
        fields.update(attributes)
        fields["args"] = arguments
        fields["created"] = now
        fields["msecs"] = float(int(now % 1 * 1000))
        fields["relativeCreated"] += (now - alike["created"]) * 1000
        if logging.logThreads:
            fields["thread"] = threading.get_ident()
            fields["threadName"] = threading.current_thread().name
        if "taskName" in fields:  # from Python 3.12 on
            fields["taskName"] = _task_name()
        logger.handle(record)

    def _first(self, level: int, caller: FrameType) -> logging.LogRecord:
        code, name = caller.f_code, self._logger.name
        return self._logger.makeRecord(
            name, level, code.co_filename, caller.f_lineno, self._message, (), None, code.co_name
        )


def _task_name() -> str | None:
    if not getattr(logging, "logAsyncioTasks", True):
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # outside of an event loop
        return None
    return None if task is None else task.get_name()
