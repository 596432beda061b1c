"""The way of telemetry into the store, whichever protocol brings it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterable, Callable
from enum import Enum

from anyio import CapacityLimiter, to_thread
from google.protobuf.message import DecodeError

from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.ingest import ingest_logs, ingest_metrics, ingest_traces
from observability.viewer.refusals import BrokenError, OverloadedError, RefusedError
from observability.viewer.store import Store

COMPLAIN_EVERY_S = 60.0

_logger = logging.getLogger(__name__)


class Signal(Enum):
    """What is sent, by its name in paths and in the names of services."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


_INGEST: dict[Signal, Callable[[bytes, Store], bytes]] = {
    Signal.TRACES: ingest_traces,
    Signal.LOGS: ingest_logs,
    Signal.METRICS: ingest_metrics,
}


class Intake:
    """Takes the requests of all senders, one after the other, and counts them in `arrivals`."""

    def __init__(self, store: Store, bodies: Bodies, arrivals: Arrivals) -> None:
        self.arrivals = arrivals
        self._store = store
        self._bodies = bodies
        # A decoded message takes many times its bytes, and the store writes for one at a time anyway.
        self._one_at_a_time = CapacityLimiter(1)
        self._quiet_until = 0.0

    async def take(
        self, signal: Signal, arriving: AsyncIterable[bytes], to_protobuf: Callable[[bytes], bytes]
    ) -> bytes:
        """Store what one request carries.

        Args:
            signal: What it is.
            arriving: The parts of its body.
            to_protobuf: Makes of a body the message in protobuf; runs in a thread.

        Returns:
            The answer in protobuf. What it counts as accepted is stored.

        Raises:
            RefusedError: Nothing of it is stored.
        """

        def process(body: bytes) -> bytes | RefusedError:
            try:
                return _INGEST[signal](to_protobuf(body), self._store)
            except RefusedError as error:
                return error
            except DecodeError:
                return BrokenError("this is no OTLP message of this signal")
            except sqlite3.Error as error:
                self._complain(error)
                return OverloadedError("it cannot be stored now")

        try:
            async with self._bodies.read(arriving) as body:
                size = len(body)
                answer = await to_thread.run_sync(process, body, limiter=self._one_at_a_time)
        except RefusedError as error:
            self.arrivals.refused(signal.value, str(error))
            raise
        if isinstance(answer, bytes):
            self.arrivals.took(signal.value, size, answer)
            return answer
        self.arrivals.refused(signal.value, str(answer))
        # Raised through the thread's future it would be part of a cycle, and all that its traceback holds, the body and
        # what was made of it, would stay until the collector came round.
        try:
            raise answer.with_traceback(None) from None
        finally:
            del answer, body

    def _complain(self, error: sqlite3.Error) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + COMPLAIN_EVERY_S
            _logger.error(
                "telemetry cannot be stored, its senders are told to come again: %s (if that stays, end the viewer,"
                " delete viewer.db in its data folder, and start it again)",
                error,
            )
