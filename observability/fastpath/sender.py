"""The thread that sends what is encoded: joins it to requests, compresses, posts, and tries again.

Which failures are tried again, and when, is OTLP's own rule:
https://opentelemetry.io/docs/specs/otlp/#failures.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.instrumentation.utils import suppress_instrumentation

from observability.fastpath.buffer import NO_ROOM, ROOM_AND_DUE, Buffer, Entry
from observability.fastpath.destination import Destination, Outcome
from observability.fastpath.group import Group
from observability.fastpath.origin import Origin, halves, request
from observability.fastpath.spool import Spool
from observability.fastpath.tally import ALREADY_SHUTDOWN, NOT_ENCODED, QUEUE_FULL, Tally
from observability.fork import call_in_child

MAX_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""Of each signal, with what is being sent, beside the few that are still to be encoded."""

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Of one request before it is compressed, unless one span alone has more. Some receivers take no more."""

GROUP: Final = 16
"""How many are encoded together, if a request may have as many."""

RETRY_FOR_S: Final = 300.0
"""How long a request is tried again before it is given up, in seconds, as the collector's own exporters do."""

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 30.0
JITTER: Final = 0.2

_ENCODING_S = 0.1  # for another thread to end what it encodes
_LAST_WORDS_S = 0.05  # to count and tell what could not be sent, once the time for sending is over

_Item = TypeVar("_Item")

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Flush:
    """A caller who waits until all is sent that was there when it came."""

    done: threading.Event = field(default_factory=threading.Event)
    succeeded: bool = False


class Sender:
    """Sends entries from a thread of its own; adding one never waits for it.

    What has no room is dropped, not what was taken before: that is sent, unless the receiver refuses it, or takes
    nothing for `RETRY_FOR_S`, or the process ends. All of that is counted.

    With a spool, a request that the receiver does not take now waits on the disk, with no other limit than its size,
    and what comes after it waits behind it. Where that has no room, it is as if there was none.

    Attributes:
        created: To be called for each entry that the SDK does not know of; see `Tally`.
    """

    def __init__(
        self,
        destination: Destination,
        tally: Tally,
        *,
        delay_s: float,
        max_batch: int,
        max_entries: int,
        close_timeout_s: float,
        max_bytes: int = MAX_BUFFER_BYTES,
        retry_for_s: float = RETRY_FOR_S,
        first_delay_s: float = FIRST_DELAY_S,
        spool: Spool | None = None,
    ) -> None:
        """Start the thread.

        Args:
            destination: Where to; it is closed with this.
            tally: Who counts.
            delay_s: The longest time that something waits before it is sent, in seconds.
            max_batch: How many entries one request has at most; so many are sent before their time.
            max_entries: How many are held at most.
            close_timeout_s: How long `shutdown` takes at most, in seconds.
            max_bytes: What is held at most, in bytes.
            retry_for_s: How long a request is tried again, in seconds.
            first_delay_s: How long the first retry waits, in seconds; each further one waits twice as long.
            spool: Where requests wait that the receiver does not take; it is closed with this.
        """
        self._destination = destination
        self._tally = tally
        self._delay_s = delay_s
        self._max_batch = max_batch
        self._close_timeout_s = close_timeout_s
        self._retry_for_s = retry_for_s
        self._first_delay_s = first_delay_s
        self._spool = spool
        self._next_delay_s = first_delay_s
        self._resume_at = self._asked_until = 0.0
        self._buffer = Buffer(max_bytes=max_bytes, max_entries=max_entries, due=max_batch)
        self._give_up_at = float("inf")
        self._refused = self._complained_of = 0
        self._lost = False
        self._group = Group(self._put, self.drop, size=min(GROUP, max_batch))
        self.created = tally.created
        tally.watch(self._waiting, self._stored if spool is not None else None)
        self._start()
        call_in_child(self._begin_again)

    def add(self, origin: Origin, body: bytes) -> None:
        """Take an entry, or count it as dropped."""
        if self._stopping.is_set():
            self._tally.dropped(1, ALREADY_SHUTDOWN)
            return
        self._group.encode()  # what came before it
        self._put((origin, body))

    def add_later(self, encode: Callable[[_Item], Entry], item: _Item) -> None:
        """Take an entry that is still to be encoded, or count it as dropped.

        Whoever adds the last one of a group encodes them; the thread encodes what there is before it sends.

        Args:
            encode: Makes the entry, in any thread; one for which it raises an exception is dropped.
            item: What from, which does not change any more, and holds nothing that the program wants to be rid of.
        """
        if self._stopping.is_set():
            self._tally.dropped(1, ALREADY_SHUTDOWN)
            return
        self._group.add(encode, item)
        if self._over:
            self._drop_late()

    def drop(self, error: BaseException) -> None:
        """Count what could not be encoded."""
        self._tally.dropped(1, NOT_ENCODED)
        _log(logging.WARNING, "one of %s cannot be exported: %s", self._destination.signal.value, error)

    def flush(self, timeout_s: float) -> bool:
        """Send all that was added; False if that took too long or did not succeed."""
        if self._stopping.is_set():
            return False
        flush = _Flush()
        self._wake.put(flush)
        return flush.done.wait(timeout_s) and flush.succeeded

    def shutdown(self) -> bool:
        """Send what is left, and end; False if some of it was not sent. What comes later is dropped."""
        if not self._stopping.is_set():
            self._give_up_at = time.monotonic() + self._close_timeout_s
            self._stopping.set()
            self._wake.put(None)
            self._thread.join(self._close_timeout_s + _LAST_WORDS_S)
            if left := self._waiting():
                _log(logging.WARNING, "%s of %s were not sent before the end", left, self._destination.signal.value)
        return not self._thread.is_alive() and not self._lost

    def _start(self) -> None:
        self._over = False
        self._stopping = threading.Event()
        # Its put, unlike an event's, may interrupt itself: see the buffer's lock.
        self._wake: queue.SimpleQueue[_Flush | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=f"fast path of {self._destination.signal.value}", daemon=True
        )
        self._thread.start()

    def _begin_again(self) -> None:
        """In a forked process: what waited is the parent's to send, and so are its connections."""
        if self._stopping.is_set():
            return
        self._group.clear()
        self._buffer.clear()
        self._destination.reopen()
        if self._spool is not None:
            try:
                self._spool.reopen()
            except OSError as error:
                _log(logging.WARNING, "nothing is kept on disk: %s", error)
                self._spool = None
        self._start()

    def _put(self, entry: Entry) -> None:
        room = self._buffer.add(entry)
        if room is ROOM_AND_DUE:
            self._wake.put(None)
        elif room is NO_ROOM:
            self._refused += 1
            self._tally.dropped(1, QUEUE_FULL)
        if self._over:
            self._drop_late()

    def _drop_late(self) -> None:
        """Count what was added while the thread looked for the last time, or later."""
        entries = self._buffer.take()
        self._buffer.release(entries)
        if late := len(entries) + self._group.clear():
            self._tally.dropped(late, ALREADY_SHUTDOWN)
            self._lost = True

    def _waiting(self) -> int:
        return len(self._buffer) + len(self._group)

    def _run(self) -> None:
        try:
            self._send_until_the_end()
        finally:
            self._over = True
            self._drop_late()

    def _send_until_the_end(self) -> None:
        with suppress_instrumentation():
            while not self._stopping.is_set():
                flush = self._wait()
                succeeded = self._send_all(flushing=flush is not None)
                if flush is not None:
                    flush.succeeded = succeeded
                    flush.done.set()
            succeeded = self._send_all(flushing=True)
            self._destination.close()
            if self._spool is not None:
                self._spool.close()
            while not self._wake.empty():
                if (flush := self._wake.get()) is not None:
                    flush.succeeded = succeeded
                    flush.done.set()

    def _wait(self) -> _Flush | None:
        delay_s = self._delay_s
        if self._stored():
            delay_s = min(delay_s, max(0.0, self._resume_at - time.monotonic()))
        try:
            return self._wake.get(timeout=delay_s)
        except queue.Empty:
            return None

    def _send_all(self, *, flushing: bool) -> bool:
        self._group.encode()
        safe = not flushing or self._group.wait(_ENCODING_S)
        for batch in self._batches(self._buffer.take()):
            self._tally.sending(len(batch))
            safe = self._send(request(batch), len(batch)) and safe
            self._buffer.release(batch)
        if not safe and self._stopping.is_set():
            self._lost = True
        if self._spool is not None:
            self._send_stored(self._spool, flushing=flushing)
        refused = self._refused
        if refused > self._complained_of:
            _log(
                logging.WARNING,
                "there was no room for %s of %s since the last warning",
                refused - self._complained_of,
                self._destination.signal.value,
            )
            self._complained_of = refused
        return safe and not self._stored()

    def _batches(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            size += len(entry[1])
            if batch and (len(batch) >= self._max_batch or size > MAX_REQUEST_BYTES):
                yield batch
                batch, size = [], len(entry[1])
            batch.append(entry)
        if batch:
            yield batch

    def _send(self, body: bytes, items: int) -> bool:
        """Send a request, or keep it on disk; False if some of it is lost."""
        if self._stored() and self._store(body, items):  # behind what waits there
            return True
        began = time.monotonic()
        try:
            outcome = self._deliver(body, once=self._spool is not None)
            if outcome.retryable and self._spool is not None:
                if self._store(body, items):
                    self._wait_with_stored(outcome)
                    return True
                outcome = self._deliver(body, tried=outcome)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
            _log(logging.ERROR, "%s could not be sent", self._destination.signal.value, error=error)
            outcome = Outcome(type(error).__name__)
        if outcome.too_large and items > 1:
            return self._send_halves(body, items)
        return self._tell(items, outcome, time.monotonic() - began)

    def _send_halves(self, body: bytes, items: int) -> bool:
        """Send two requests in the place of one that is too large; False if some of it is lost."""
        try:
            first, second = halves(self._destination.signal, body)
        except DecodeError as error:  # a file that was damaged when the machine went down
            return self._tell(items, Outcome(type(error).__name__, message=str(error)), 0.0)
        return self._send(*first) & self._send(*second)  # both, whatever becomes of the first

    def _tell(self, items: int, outcome: Outcome, seconds: float) -> bool:
        """Count what came of a request and log what is lost; False if something is."""
        rejected = min(max(outcome.rejected, 0), items)
        self._tally.sent(items, rejected, outcome.error, seconds)
        if outcome.error or rejected:
            _log(
                logging.ERROR,
                "%s of %s %s were not taken: %s %s",
                rejected or items,
                items,
                self._destination.signal.value,
                outcome.error or "rejected",
                outcome.message,
            )
        return not outcome.error and not rejected

    def _stored(self) -> int:
        return self._spool.items if self._spool is not None else 0

    def _store(self, body: bytes, items: int) -> bool:
        if self._spool is None:
            return False
        try:
            stored = self._spool.add(body, items)
        except OSError as error:
            _log(logging.WARNING, "%s cannot be kept on disk: %s", self._destination.signal.value, error)
            return False
        if stored:
            self._tally.stored(items)
        return stored

    def _send_stored(self, spool: Spool, *, flushing: bool) -> None:
        """Send what is on disk, until something else is to be done or the receiver takes no more.

        Who flushes, or ends, does not wait for the next attempt unless the receiver has asked for it.
        """
        while (stored := spool.oldest()) is not None and (flushing or self._wake.empty()):
            began = time.monotonic()
            if began < (self._asked_until if flushing else self._resume_at):
                return
            try:
                body = spool.read(stored)
                outcome = self._deliver(body, once=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
                _log(logging.ERROR, "stored %s could not be sent", self._destination.signal.value, error=error)
                outcome = Outcome(type(error).__name__)
            if outcome.retryable:
                self._wait_with_stored(outcome)
                return
            spool.remove()
            self._tally.resumed(stored.items)
            if outcome.too_large and stored.items > 1:
                self._send_halves(body, stored.items)
            else:
                self._tell(stored.items, outcome, time.monotonic() - began)

    def _wait_with_stored(self, outcome: Outcome) -> None:
        now = time.monotonic()
        self._resume_at = now + self._delay(outcome)
        self._asked_until = self._resume_at if outcome.retry_after_s is not None else now

    def _deliver(self, body: bytes, *, once: bool = False, tried: Outcome | None = None) -> Outcome:
        """Post until it succeeds, can never succeed, or the time is over; `tried` says that it was posted just now."""
        body = self._destination.compress(body)
        give_up_at = time.monotonic() + self._retry_for_s
        while True:
            left_s = min(give_up_at, self._give_up_at) - time.monotonic()
            if left_s <= 0:
                return Outcome("shutdown", retryable=True)
            ending = self._stopping.is_set()
            outcome = tried or self._destination.post(body, min(self._destination.timeout_s, left_s))
            tried = None
            if not outcome.retryable:
                self._next_delay_s = self._first_delay_s
            if once or not outcome.retryable:
                return outcome
            wait_s = self._delay(outcome)
            asked = outcome.retry_after_s is not None
            if not self._pause(time.monotonic() + wait_s, give_up_at, asked=asked, ending=ending):
                return outcome

    def _delay(self, outcome: Outcome) -> float:
        """How long to wait before the next attempt, in seconds: as the receiver says, or twice as long each time."""
        wait_s = outcome.retry_after_s
        if wait_s is None:
            wait_s = self._next_delay_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            self._next_delay_s = min(2 * self._next_delay_s, MAX_DELAY_S)
        _log(
            logging.WARNING,
            "%s are sent again in %.1f s: %s %s",
            self._destination.signal.value,
            wait_s,
            outcome.error,
            outcome.message,
        )
        return wait_s

    def _pause(self, resume_at: float, give_up_at: float, *, asked: bool, ending: bool) -> bool:
        """Wait before the next attempt; a shutdown ends that, unless the receiver has asked for it.

        The first attempt of an end comes at once, if `ending` does not say that there was one.

        Returns:
            Whether there is time for another attempt.
        """
        if not ending:
            # A receiver that asks for more than there is time is left alone for all of that time.
            if not self._stopping.wait(max(0.0, min(resume_at, give_up_at) - time.monotonic())):
                return resume_at < give_up_at
            if not asked:
                return True
        if resume_at >= self._give_up_at:
            return False
        time.sleep(max(0.0, resume_at - time.monotonic()))
        return True


def _log(level: int, message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log; a handler that raises must not end the thread."""
    with suppress(Exception):
        _logger.log(level, message, *arguments, exc_info=error, stacklevel=2)
