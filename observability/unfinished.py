"""Notices of spans that still run, for a viewer that shows them before they end.

OpenTelemetry exports a span when it has ended, so a request that hangs is not to be seen. A notice is a log record: an
event named `clearspan.span.running` with the span's ids and the attributes that it has so far. Whatever receives OTLP
takes it; what does not know it has a line of the least severity more. Most spans end before anybody could look at them,
and cost no notice: one is sent when a span has run for a moment, and again and again while it runs, so that the viewer
can tell a span that takes long from one whose process is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import format_span_id, set_span_in_context

from observability.fork import call_in_child
from observability.telemetry import RUNNING, RUNNING_KIND, RUNNING_NAME, RUNNING_PARENT

ROUND_S: Final = 0.25
"""A span is told of when it has run for one round at least, and two at most."""

RENEW_ROUNDS: Final = 40
"""After how many rounds it is told of again."""

MAX_RUNNING: Final = 4096
"""How many spans are watched; of more at once no notice is sent."""

MAX_BATCH: Final = 512
STOP_TIMEOUT_S: Final = 2.0
"""How long `shutdown` waits for the last notices before it cuts their exporter off."""

COMPLAIN_EVERY_S: Final = 60.0

_logger = logging.getLogger(__name__)


class UnfinishedSpans(SpanProcessor):
    """Sends notices of sampled spans that run longer than a moment, from a thread of its own.

    Starting and ending a span costs an entry of a dictionary, and never waits. A notice that cannot be sent is lost;
    the next one makes up for it.

    Attributes:
        dropped: How many spans were not watched, since `MAX_RUNNING` were.
    """

    def __init__(self, exporter: LogRecordExporter, *, round_s: float = ROUND_S) -> None:
        """Begin to watch.

        Args:
            exporter: Where notices go; it is shut down with this processor.
            round_s: Time between two looks at what runs, in seconds.
        """
        self.dropped = 0
        self._exporter = exporter
        self._round_s = round_s
        # By span id. With one round a span goes from `new` to `seen`, with the next one to `told`, and one that ends is
        # looked for in all of them: so neither side needs a lock or a clock.
        self._new: dict[int, Span] = {}
        self._seen: dict[int, Span] = {}
        self._told: dict[int, tuple[Span, int]] = {}
        self._round = 0
        self._complained_of, self._quiet_until = 0, 0.0
        self._start_thread()
        call_in_child(self._begin_again)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the interface's
        """Watch a span."""
        if len(self._new) < MAX_RUNNING:
            self._new[span.context.span_id] = span
        else:
            self.dropped += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Watch it no longer."""
        span_id = span.context.span_id
        if self._new.pop(span_id, None) is None and self._seen.pop(span_id, None) is None:
            self._told.pop(span_id, None)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Tell of all that run now and have not been told of, however short; False if that did not succeed in time."""
        if not self._one_round.acquire(timeout=timeout_millis / 1000):
            return False
        try:
            return self._tell([*self._take(), *self._take()])
        finally:
            self._one_round.release()

    def shutdown(self) -> None:
        """Tell of what is left unfinished, and end."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no annotation here

    def _start_thread(self) -> None:
        self._stopping = threading.Event()
        self._one_round = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="unfinished spans", daemon=True)
        self._thread.start()

    def _begin_again(self) -> None:
        """In a forked process, which has neither the thread nor the spans."""
        self._new, self._seen, self._told = {}, {}, {}
        self._start_thread()

    def _run(self) -> None:
        while not self._stopping.wait(self._round_s):
            with self._one_round:
                self._tell(self._take())
        self.force_flush()

    def _take(self) -> list[Span]:
        """One round: the spans that are to be told of now."""
        self._round += 1
        seen, self._seen, self._new = self._seen, self._new, {}
        due = []
        for span_id, (span, renewal) in list(self._told.items()):
            if span.end_time is not None:
                self._told.pop(span_id, None)
            elif self._round >= renewal:
                due.append(span)
        room = MAX_RUNNING - len(self._told)
        fresh = [span for span in list(seen.values()) if span.end_time is None and span.context.trace_flags.sampled]
        self.dropped += len(fresh[room:])
        due += fresh[:room]
        for span in due:
            self._told[span.context.span_id] = span, self._round + RENEW_ROUNDS
        return due

    def _tell(self, spans: Sequence[Span]) -> bool:
        if self.dropped > self._complained_of and time.monotonic() >= self._quiet_until:
            self._complained_of, self._quiet_until = self.dropped, time.monotonic() + COMPLAIN_EVERY_S
            _logger.warning("more than %s spans run at once; no notice was sent of %s", MAX_RUNNING, self.dropped)
        done = True
        for start in range(0, len(spans), MAX_BATCH):
            try:
                with suppress_instrumentation():
                    result = self._exporter.export([_notice(span) for span in spans[start : start + MAX_BATCH]])
                done = done and result is LogRecordExportResult.SUCCESS
            except Exception:
                _logger.exception("notices of unfinished spans could not be sent")
                done = False
        return done


def _notice(span: Span) -> ReadableLogRecord:
    attributes = {RUNNING_NAME: span.name, RUNNING_KIND: span.kind.name.lower()}
    if span.parent is not None:
        attributes[RUNNING_PARENT] = format_span_id(span.parent.span_id)
    # Others write to them meanwhile, so that one may be gone when it is asked for.
    own = span.attributes or {}
    found = {key: value for key in own if (value := own.get(key)) is not None}
    record = LogRecord(
        timestamp=span.start_time,
        observed_timestamp=time.time_ns(),
        context=set_span_in_context(span, Context()),
        severity_text="TRACE",
        severity_number=SeverityNumber.TRACE,
        body=f"{span.name} is running",
        attributes={**found, **attributes},
        event_name=RUNNING,
    )
    return ReadableLogRecord(record, span.resource, span.instrumentation_scope)
