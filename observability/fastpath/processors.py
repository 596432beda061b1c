"""The processors of the SDK that encode what ends and hand it to the thread that sends it."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from observability.fastpath.buffer import Entry
from observability.fastpath.logs import LogEncoder
from observability.fastpath.origin import Origins
from observability.fastpath.sender import Sender
from observability.fastpath.span import LeanSpan
from observability.fastpath.spans import SpanEncoder


class EncodingSpanProcessor(SpanProcessor):
    """Encodes sampled spans as they end, lean ones some at a time. Others beside it get the same spans, as always."""

    def __init__(self, sender: Sender) -> None:
        """Hand them to a sender, which is shut down with this."""
        self._sender = sender
        self._sent_all = False
        self._encoder = SpanEncoder()
        self._origins = Origins()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do before it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Encode a span. One that cannot be encoded is counted, since nothing may be raised here."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        try:
            origin = self._origins.of(span.resource, span.instrumentation_scope)
            body = self._encoder.encode(span)
        except Exception as error:  # noqa: BLE001 - whatever a foreign value does when it is encoded
            self._sender.drop(error)
        else:
            self._sender.add(origin, body)

    def on_lean_end(self, span: LeanSpan) -> None:
        """Take a lean span that is sampled, as it is, where no other processor has to see it."""
        self._sender.add_later(self._encode_lean, span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what has ended; False if that took too long or did not succeed."""
        return self._sender.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what is left, within the sender's bound; `sent_all` tells how it went."""
        self._sent_all = self._sender.shutdown()

    def sent_all(self) -> bool:
        """Whether nothing was left unsent at the end, which the SDK's providers do not hand on."""
        return self._sent_all

    def _encode_lean(self, span: LeanSpan) -> Entry:
        return span.common.origin, self._encoder.encode_lean(span)


class EncodingLogProcessor(LogRecordProcessor):
    """Encodes log records as they are emitted. Others that are added beside it get the same records, as always.

    Attributes:
        sender: Where they go.
        encoder: Makes bytes of them.
        origins: Makes bytes of what they come from.
    """

    def __init__(self, sender: Sender) -> None:
        """Hand them to a sender, which is shut down with this."""
        self.sender = sender
        self._sent_all = False
        self.encoder = LogEncoder()
        self.origins = Origins()
        self._no_resource = Resource({})

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Encode a record. One that cannot be encoded is counted, since nothing may be raised here."""
        try:
            origin = self.origins.of(log_record.resource or self._no_resource, log_record.instrumentation_scope)
            body = self.encoder.encode(log_record)
        except Exception as error:  # noqa: BLE001 - whatever a foreign value does when it is encoded
            self.sender.drop(error)
        else:
            self.sender.add(origin, body)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what was emitted; False if that took too long or did not succeed."""
        return self.sender.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what is left, within the sender's bound; `sent_all` tells how it went."""
        self._sent_all = self.sender.shutdown()

    def sent_all(self) -> bool:
        """Whether nothing was left unsent at the end, which the SDK's providers do not hand on."""
        return self._sent_all
