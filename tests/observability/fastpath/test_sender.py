"""Sending: attempts, outages, bounds, and the end, against a real receiver."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from observability.fastpath.buffer import ENTRY_BYTES, Entry
from observability.fastpath.destination import Destination, Signal
from observability.fastpath.origin import Origin
from observability.fastpath.sender import GROUP, Sender
from observability.fastpath.spool import Spool
from observability.fastpath.tally import Tally
from observability.fastpath.wire import field
from tests.observability.fastpath.held import Held
from tests.observability.fastpath.receiver import PROTOBUF, Answer, Receiver

ORIGIN = Origin(b"", b"", b"", b"")
BUSY = Answer(503)

Start = Callable[..., Sender]


class Counts:
    """What the metrics say."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def __call__(self) -> Counter[tuple[str, Any]]:
        """The sums of all that counts spans, by the end of the metric's name and by the kind of error."""
        counts: Counter[tuple[str, Any]] = Counter()
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        if isinstance(point, NumberDataPoint) and point.value:
                            name = metric.name.removeprefix("otel.sdk.")
                            counts[name, (point.attributes or {}).get("error.type")] += int(point.value)
        return counts


@pytest.fixture
def counts() -> Iterator[Counts]:
    """Of all senders of a test."""
    one = Counts()
    yield one
    one.provider.shutdown()


@pytest.fixture
def start(receiver: Receiver, counts: Counts) -> Iterator[Start]:
    """Starts a sender to the receiver, with short times."""
    senders: list[Sender] = []

    def begin(**options: Any) -> Sender:
        destination = Destination(Signal.TRACES, f"{receiver.url}/v1/traces", timeout_s=options.pop("timeout_s", 5))
        tally = Tally(Signal.TRACES, destination.url, counts.provider, capacity=100)
        defaults = {"delay_s": 60, "max_batch": 100, "max_entries": 1000, "close_timeout_s": 5, "first_delay_s": 0.01}
        senders.append(Sender(destination, tally, **{**defaults, **options}))
        return senders[-1]

    yield begin
    receiver.go_on.set()
    for sender in senders:
        sender.shutdown()


def _add(sender: Sender, *names: str) -> None:
    for name in names:
        sender.add(ORIGIN, field(b"\x2a", name.encode()))


def _until(true: Callable[[], bool]) -> None:
    """Wait for another thread, at most as long as a test may take."""
    while not true():
        time.sleep(0.005)


def test_flush(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What was added is sent in one request, in its order, and is counted."""
    sender = start()
    _add(sender, "a", "b")
    assert sender.flush(5)
    assert (receiver.names(), len(receiver.requests)) == (["a", "b"], 1)
    assert counts() == {
        ("processor.span.queue.capacity", None): 100,
        ("processor.span.processed", None): 2,
        ("exporter.span.exported", None): 2,
    }


class Encoder:
    """Makes entries, and knows of which it did."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def __call__(self, name: str) -> Entry:
        """Encode a name, unless it is "bad"."""
        if name == "bad":
            raise ValueError(name)
        self.encoded.append(name)
        return ORIGIN, field(b"\x2a", name.encode())


def test_encoded_in_groups(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What is still to be encoded waits until there is enough of it, and counts as waiting meanwhile."""
    sender, encode = start(), Encoder()
    names = [f"{number}" for number in range(GROUP)]
    for name in names[:-1]:
        sender.add_later(encode, name)
    assert encode.encoded == []
    assert counts()["processor.span.queue.size", None] == GROUP - 1
    sender.add_later(encode, names[-1])
    assert encode.encoded == names
    assert counts()["processor.span.queue.size", None] == GROUP
    assert sender.flush(5)
    assert receiver.names() == names


def test_a_group_that_is_not_full(start: Start, receiver: Receiver) -> None:
    """What is still to be encoded is sent with everything else, in the order in which it came."""
    sender, encode = start(), Encoder()
    sender.add_later(encode, "a")
    _add(sender, "b")
    sender.add_later(encode, "c")
    assert encode.encoded == ["a"]
    assert sender.flush(5)
    assert receiver.names() == ["a", "b", "c"]


def test_a_group_is_no_larger_than_a_request(start: Start, receiver: Receiver) -> None:
    """Where a request has fewer entries than a group, that many are sent before their time."""
    sender = start(max_batch=1)
    sender.add_later(Encoder(), "a")
    _until(lambda: receiver.names() == ["a"])


def test_one_of_a_group_that_cannot_be_encoded(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What cannot be encoded is counted, and the others of its group are sent."""
    sender, encode = start(), Encoder()
    for name in ("a", "bad", "b"):
        sender.add_later(encode, name)
    assert sender.flush(5)
    assert receiver.names() == ["a", "b"]
    assert counts()["processor.span.processed", "not_encoded"] == 1


def test_the_end_of_a_group(start: Start, receiver: Receiver, counts: Counts) -> None:
    """The end sends what is still to be encoded; what comes later is not encoded, and counted."""
    sender, encode = start(), Encoder()
    sender.add_later(encode, "a")
    assert sender.shutdown()
    sender.add_later(encode, "b")
    assert (receiver.names(), encode.encoded) == (["a"], ["a"])
    assert counts()["processor.span.processed", "already_shutdown"] == 1


@pytest.fixture
def held() -> Iterator[Held]:
    """One that goes on in the end."""
    held = Held(Encoder())
    yield held
    held.go_on.set()


def _held_up(sender: Sender, held: Held) -> threading.Thread:
    thread = threading.Thread(target=sender.add_later, args=(held, "held"))
    thread.start()
    assert held.begun.wait(10)
    return thread


def test_flush_while_another_thread_encodes(start: Start, receiver: Receiver, held: Held) -> None:
    """A flush waits a moment for what another thread is encoding, and says if that was not enough."""
    sender = start(max_batch=1)
    thread = _held_up(sender, held)
    assert not sender.flush(5)
    held.go_on.set()
    thread.join(10)
    assert sender.flush(5)
    assert receiver.names() == ["held"]


def test_shutdown_while_another_thread_encodes(start: Start, receiver: Receiver, counts: Counts, held: Held) -> None:
    """What another thread ends encoding too late is counted; the rest is sent."""
    sender = start(max_batch=1)
    thread = _held_up(sender, held)
    sender.add_later(Encoder(), "a")
    assert not sender.shutdown()
    held.go_on.set()
    thread.join(10)
    assert receiver.names() == ["a"]
    after = counts()
    assert after["processor.span.processed", "already_shutdown"] == 1
    assert after["processor.span.queue.size", None] == 0


def test_added_at_the_last_moment(start: Start, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added by a thread that saw no end coming is counted, whichever way it is added."""
    sender = start()
    assert sender.shutdown()
    monkeypatch.setattr(sender._stopping, "is_set", lambda: False)
    _add(sender, "a")
    sender.add_later(Encoder(), "b")
    after = counts()
    assert after["processor.span.processed", "already_shutdown"] == 2
    assert after["processor.span.queue.size", None] == 0


class Raising(logging.Handler):
    """Raises what a handler should not."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise it."""
        raise RuntimeError(record.getMessage())


@pytest.fixture
def _raising() -> Iterator[None]:
    """Somebody's handler."""
    handler = Raising()
    logging.getLogger("observability.fastpath").addHandler(handler)
    yield
    logging.getLogger("observability.fastpath").removeHandler(handler)


@pytest.mark.usefixtures("_raising")
def test_handler_that_raises(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What is told to a handler that raises ends neither the thread nor the request."""
    sender, encode = start(delay_s=0.01), Encoder()
    sender.add_later(encode, "bad")
    _until(lambda: counts()["processor.span.processed", "not_encoded"] == 1)
    sender.add_later(encode, "a")
    receiver.answers += [Answer(400)]
    assert not sender.flush(5)
    sender.add_later(encode, "b")
    assert sender.shutdown()
    assert receiver.names() == ["a", "b"]


def test_sent_by_time(start: Start, receiver: Receiver) -> None:
    """Nothing waits longer than it may."""
    _add(start(delay_s=0.01), "a")
    _until(lambda: receiver.names() == ["a"])


def test_sent_by_number(start: Start, receiver: Receiver) -> None:
    """What makes a request is sent before its time, and no request has more."""
    _add(start(max_batch=2), "a", "b")
    _until(lambda: receiver.names() == ["a", "b"])
    sender = start(max_batch=2)
    receiver.go_on.clear()
    _add(sender, "c", "d", "e", "f", "g")
    receiver.go_on.set()
    assert sender.flush(5)
    assert receiver.names()[2:] == ["c", "d", "e", "f", "g"]
    assert len(receiver.requests) >= 4


def test_bytes_of_a_request(start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has no more bytes than receivers take, unless one span alone has more."""
    monkeypatch.setattr("observability.fastpath.sender.MAX_REQUEST_BYTES", 100)
    sender = start()
    names = ["a" * 300, "b" * 60, "c" * 30, "d" * 60]
    _add(sender, *names)
    assert sender.flush(5)
    assert (receiver.names(), len(receiver.requests)) == (names, 3)


def test_outage(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What was taken is sent once the receiver is back, in its order, and nothing of it is lost or counted as lost."""
    sender = start()
    receiver.answers += [BUSY] * 3
    _add(sender, "a")
    flushed = threading.Thread(target=sender.flush, args=(5,))
    flushed.start()
    _until(lambda: len(receiver.requests) >= 2)
    _add(sender, "b")
    flushed.join()
    assert sender.flush(5)
    assert receiver.names() == ["a", "a", "a", "a", "b"]
    assert counts()["exporter.span.exported", None] == 2
    assert not [name for name, error in counts() if error]


def test_asked_to_wait(start: Start, receiver: Receiver) -> None:
    """No attempt comes before the time that the receiver asks for, which may be now."""
    sender = start(first_delay_s=600)
    receiver.answers += [Answer(429, {"retry-after": "0"}), Answer(503, {"retry-after": "1"})]
    _add(sender, "a")
    began = time.monotonic()
    assert sender.flush(10)
    assert time.monotonic() - began >= 1
    assert len(receiver.requests) == 3


def test_given_up(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What the receiver takes not at all is given up in the end and counted, and what comes later is sent."""
    sender = start(retry_for_s=0.05)
    receiver.answers += [Answer(502, {"retry-after": "3600"})]
    _add(sender, "a")
    assert not sender.flush(5)
    _add(sender, "b")
    assert sender.flush(5)
    assert (counts()["exporter.span.exported", "502"], counts()["exporter.span.exported", None]) == (1, 1)
    assert counts()["exporter.span.inflight", None] == 0


def test_refused(start: Start, receiver: Receiver, counts: Counts, caplog: pytest.LogCaptureFixture) -> None:
    """What is refused for good is not sent again, is counted with the status, and a line says so."""
    sender = start()
    receiver.answers += [Answer(401)]
    _add(sender, "a", "b")
    assert not sender.flush(5)
    assert (len(receiver.requests), counts()["exporter.span.exported", "401"]) == (1, 2)
    assert "2 of 2 traces were not taken: 401" in caplog.text


@pytest.mark.parametrize(("told", "rejected"), [(1, 1), (99, 2), (-1, 0)])
def test_partial_success(start: Start, receiver: Receiver, counts: Counts, told: int, rejected: int) -> None:
    """What the receiver did not want of a request is counted, and not sent again, whatever number it tells."""
    partial = ExportTracePartialSuccess(rejected_spans=told, error_message="no room")
    receiver.answers.append(
        Answer(200, PROTOBUF, ExportTraceServiceResponse(partial_success=partial).SerializeToString())
    )
    sender = start()
    _add(sender, "a", "b")
    assert sender.flush(5) is not bool(rejected)
    assert len(receiver.requests) == 1
    assert counts()["exporter.span.exported", "rejected"] == rejected
    assert counts()["exporter.span.exported", None] == 2 - rejected


def test_too_large(start: Start, receiver: Receiver, counts: Counts) -> None:
    """A request that is too large is sent in halves, and so on; only what is too large by itself is lost."""
    receiver.max_bytes = 100
    sender = start()
    names = [letter * 30 for letter in "abcdef"] + ["x" * 200]
    _add(sender, *names)
    assert not sender.flush(5)
    taken = [body for _, body in receiver.requests if len(body) <= receiver.max_bytes]
    assert sum(name.encode() in body for body in taken for name in names) == 6
    assert (counts()["exporter.span.exported", None], counts()["exporter.span.exported", "413"]) == (6, 1)
    assert counts()["exporter.span.inflight", None] == 0


def test_bounded_while_nobody_answers(start: Start, receiver: Receiver, counts: Counts) -> None:
    """A receiver that hangs makes nobody wait and takes no more memory than the bound; the rest is counted."""
    receiver.go_on.clear()
    room = 50
    sender = start(max_bytes=room * (ENTRY_BYTES + 3), max_batch=10)
    _add(sender, *"a" * 1000)
    assert (len(sender._buffer), counts()["processor.span.processed", "queue_full"]) == (room, 1000 - room)
    receiver.go_on.set()
    assert sender.flush(5)
    assert receiver.names() == ["a"] * room
    assert (len(sender._buffer), sender._buffer._bytes) == (0, 0)


def test_shutdown_sends_what_is_left(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What waits is sent at the end, and what comes later is counted as that."""
    sender = start()
    _add(sender, "a")
    assert sender.shutdown()
    _add(sender, "b")
    assert not sender.flush(5)
    assert (receiver.names(), counts()["processor.span.processed", "already_shutdown"]) == (["a"], 1)
    assert sender.shutdown()


def test_shutdown_ends_a_wait(start: Start, receiver: Receiver) -> None:
    """What waits for its next attempt has it at once when the process ends."""
    sender = start(first_delay_s=600)
    receiver.answers += [BUSY]
    _add(sender, "a")
    sender.flush(0)
    _until(lambda: len(receiver.requests) == 1)
    assert sender.shutdown()
    assert receiver.names() == ["a", "a"]


def test_shutdown_with_a_receiver_that_hangs(
    start: Start, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The end takes no longer than it may, and a line says how many were not sent."""
    receiver.go_on.clear()
    sender = start(close_timeout_s=0.2)
    _add(sender, "a")
    began = time.monotonic()
    assert not sender.shutdown()
    assert time.monotonic() - began < 3
    assert "1 of 1 traces were not taken" in caplog.text or "1 of traces were not sent" in caplog.text


def test_shutdown_with_a_receiver_that_refuses(start: Start, receiver: Receiver, counts: Counts) -> None:
    """What cannot be sent in the time that is left is given up and counted."""
    sender = start(close_timeout_s=0.2, max_batch=1)
    receiver.answers += [Answer(503, {"retry-after": "60"})] * 10
    _add(sender, "a", "b", "c")
    sender.shutdown()
    _until(lambda: counts()["exporter.span.inflight", None] == 0)
    given_up = counts()
    assert given_up["exporter.span.exported", None] == 0
    assert given_up["exporter.span.exported", "503"] + given_up["exporter.span.exported", "shutdown"] == 3


def test_flush_is_bounded(start: Start, receiver: Receiver) -> None:
    """Who flushes waits no longer than it says."""
    receiver.go_on.clear()
    sender = start()
    _add(sender, "a")
    assert not sender.flush(0.05)


def test_nothing_is_logged_for_success(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that takes everything is no reason for a line."""
    caplog.set_level(logging.INFO, "observability")
    sender = start()
    _add(sender, "a")
    assert sender.flush(5)
    assert caplog.text == ""


def test_a_mistake_of_ours(start: Start, receiver: Receiver, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one request, the thread goes on with the next one."""
    sender = start()
    monkeypatch.setattr(sender._destination, "compress", lambda _: 1 / 0)
    _add(sender, "a")
    assert not sender.flush(5)
    monkeypatch.undo()
    _add(sender, "b")
    assert sender.flush(5)
    assert (receiver.names(), counts()["exporter.span.exported", "ZeroDivisionError"]) == (["b"], 1)


def test_outage_with_a_spool(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """What the receiver does not take waits on disk and gives its place in memory up, and comes in order later."""
    sender = start(spool=Spool(tmp_path), first_delay_s=60, max_entries=2)
    receiver.answers += [BUSY]
    for name in "abc":
        _add(sender, name, name)
        sender._wake.put(None)
        _until(lambda: len(sender._buffer) == 0)
    during = counts()
    assert (len(receiver.requests), during["clearspan.exporter.spooled", None]) == (1, 6)
    assert during["exporter.span.inflight", None] == during["processor.span.processed", "queue_full"] == 0
    assert sender.flush(5)
    assert receiver.names()[2:] == list("aabbcc")
    after = counts()
    assert (after["exporter.span.exported", None], after["clearspan.exporter.spooled", None]) == (6, 0)
    assert after["exporter.span.inflight", None] == 0


def test_stored_is_sent_by_itself(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """What is on disk has its next attempt when its time has come, though nothing new was added."""
    sender = start(spool=Spool(tmp_path), first_delay_s=0.01)
    receiver.answers += [BUSY] * 3
    _add(sender, "a")
    assert not sender.flush(5)
    _until(lambda: receiver.names() == list("aaaa"))


def test_restart_with_a_spool(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """What cannot be sent at the end is kept, which is no loss, and the next process sends it first."""
    receiver.answers += [Answer(503, {"retry-after": "60"})]
    sender = start(spool=Spool(tmp_path), max_batch=1, close_timeout_s=1)
    _add(sender, "a", "b")
    assert sender.shutdown()
    assert not [error for _, error in counts() if error]
    heir = start(spool=Spool(tmp_path))
    _add(heir, "c")
    assert heir.flush(5)
    assert receiver.names()[1:] == ["a", "b", "c"]


def test_spool_without_room(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """Without room on disk it is as without a spool: what is in memory is tried again, and nothing of it is lost."""
    sender = start(spool=Spool(tmp_path, max_bytes=0))
    receiver.answers += [BUSY] * 3
    _add(sender, "a")
    assert sender.flush(5)
    assert (receiver.names(), counts()["exporter.span.exported", None]) == (["a"] * 4, 1)


def test_asked_to_wait_without_room(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Without room on disk no attempt comes before the time that the receiver asks for either."""
    sender = start(spool=Spool(tmp_path, max_bytes=0), retry_for_s=0.05)
    receiver.answers += [Answer(429, {"retry-after": "3600"})]
    _add(sender, "a")
    assert not sender.flush(5)
    assert len(receiver.requests) == 1


def test_stored_too_large(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """What waited on disk is sent in halves too where the receiver wants that."""
    sender = start(spool=Spool(tmp_path), first_delay_s=60)
    receiver.answers += [BUSY]
    _add(sender, *(letter * 30 for letter in "abcd"))
    sender._wake.put(None)
    _until(lambda: sender._stored() == 4)
    receiver.max_bytes = 50
    assert sender.flush(5)
    taken = [body for _, body in receiver.requests if len(body) <= receiver.max_bytes]
    assert (len(taken), counts()["exporter.span.exported", None]) == (4, 4)
    assert counts()["exporter.span.inflight", None] == 0


def test_stored_damaged(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """What is damaged on disk, so that it has no halves, is counted as lost; what comes later is sent."""
    spool = Spool(tmp_path)
    spool.add(b"\xff" * 60, 5)
    receiver.max_bytes = 50
    sender = start(spool=spool)
    sender.flush(5)
    assert counts()["exporter.span.exported", "DecodeError"] == 5
    _add(sender, "a")
    assert sender.flush(5)
    assert counts()["exporter.span.exported", None] == 1
    assert counts()["exporter.span.inflight", None] == 0


def test_stored_refused(start: Start, receiver: Receiver, counts: Counts, tmp_path: Path) -> None:
    """What waited on disk and is refused for good, or cannot be read, is counted and keeps nothing else waiting."""
    spool = Spool(tmp_path)
    sender = start(spool=spool)
    for _ in range(4):
        spool.add(b"x", 1)
    receiver.answers += [Answer(400)]
    spool._stored[1].path.unlink()
    spool._stored[2].path.write_bytes(b"")  # as when the machine went down
    assert sender.flush(5)
    exported = {error: number for (name, error), number in counts().items() if name == "exporter.span.exported"}
    assert exported == {"400": 1, "FileNotFoundError": 1, "OSError": 1, None: 1}
