"""A span that is the current one for a while."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.util._decorator import _AgnosticContextManager


class CurrentSpan(_AgnosticContextManager[trace.Span]):
    """The current span of a block, or of each call of a function that it decorates, asynchronous ones too.

    It does what the SDK's does with two generators, which cost more than the span.
    """

    def __init__(self, tracer: trace.Tracer, arguments: tuple[Any, ...], *, end_on_exit: bool) -> None:
        """Start nothing yet.

        Args:
            tracer: Starts the span.
            arguments: Those of `start_span`, all of them.
            end_on_exit: Whether the span ends with the block.
        """
        self._tracer = tracer
        self._arguments = arguments
        self._end_on_exit = end_on_exit

    def _recreate_cm(self) -> CurrentSpan:
        """One for each call of a function that is decorated."""
        return CurrentSpan(self._tracer, self._arguments, end_on_exit=self._end_on_exit)

    def __enter__(self) -> trace.Span:
        self._span = span = self._tracer.start_span(*self._arguments)
        self._token = attach(set_span_in_context(span))
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> Literal[False]:
        span = self._span
        detach(self._token)
        try:
            # What is no Exception is no error, as when a generator is closed.
            if isinstance(error, Exception) and span.is_recording():
                *_, record_exception, set_status_on_exception = self._arguments
                if record_exception:
                    span.record_exception(error)
                if set_status_on_exception:
                    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        finally:
            if self._end_on_exit:
                span.end()
        return False
