"""Load on a server: so many connections, each of which sends one request after the other, in one thread.

The requests are ready bytes, and of an answer no more is read than tells whether it is the right one, so that the load
takes a fraction of the time that the server takes. Whether it did so is told with the times.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

ANSWER_TIMEOUT_S = 10.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_MAX_ANSWER = 64 * 1024


class WrongAnswerError(Exception):
    """The server answered something else, or not in time; the message says what."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it: every request that was sent was answered as it should, and is counted."""

    latencies_ns: list[int]
    """Of each request, from the send to the answer's last byte; sorted."""

    took_s: float
    """Until the last answer."""

    busy_s: float
    """This process's own time of a processor."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies_ns) / self.took_s


class Connections:
    """Open connections to one server; `connect` makes them."""

    def __init__(self, sockets: list[socket.socket], request: bytes, body: bytes) -> None:
        self._sockets = {one.fileno(): one for one in sockets}
        self._request = request
        self._body = body

    def send(self, seconds: float) -> Load:
        """Send requests for so long, on each connection the next one when the one before is answered.

        Raises:
            WrongAnswerError: An answer is not a 200 with the body, or does not come.
        """
        try:
            return self._send(seconds)
        except OSError as error:
            raise WrongAnswerError(f"the server closed a connection: {error}") from error

    def _send(self, seconds: float) -> Load:
        sockets, request, body = self._sockets, self._request, self._body
        latencies: list[int] = []
        sent: dict[int, int] = {}
        parts: dict[int, bytes] = {}
        with select.epoll() as poll, _without_gc():
            for number in sockets:
                poll.register(number, select.EPOLLIN)
            busy, start = time.process_time(), time.perf_counter_ns()
            end = start + int(seconds * 1e9)
            for number, connection in sockets.items():
                sent[number] = time.perf_counter_ns()
                connection.sendall(request)
            while sent:
                ready = poll.poll(ANSWER_TIMEOUT_S)
                if not ready:
                    raise WrongAnswerError(f"{len(sent)} requests had no answer in {ANSWER_TIMEOUT_S:g} s")
                for number, _ in ready:
                    connection = sockets[number]
                    data = connection.recv(_MAX_ANSWER)
                    if not data:
                        raise WrongAnswerError("the server closed a connection")
                    if number in parts:
                        data = parts.pop(number) + data
                    if not (data.startswith(b"HTTP/1.1 200 ") and data.endswith(body)):
                        if not _incomplete(data):
                            raise WrongAnswerError(f"not the answer that was expected: {data[:400]!r}")
                        parts[number] = data
                        continue
                    now = time.perf_counter_ns()
                    latencies.append(now - sent[number])
                    if now < end:
                        sent[number] = now
                        connection.sendall(request)
                    else:
                        del sent[number]
            took_s = (time.perf_counter_ns() - start) / 1e9
            return Load(sorted(latencies), took_s, time.process_time() - busy)


@contextmanager
def connect(port: int, count: int, path: str, body: bytes) -> Iterator[Connections]:
    """Open so many connections to a server on the loopback, for requests of one path that have one answer."""
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: application/json\r\n\r\n".encode()
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(one)
        yield Connections(sockets, request, body)


def _incomplete(data: bytes) -> bool:
    """Whether there is more to come of an answer."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return len(data) < _MAX_ANSWER
    length = _LENGTH.search(head + b"\r\n")
    return length is not None and len(body) < int(length[1])


@contextmanager
def _without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
