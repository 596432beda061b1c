from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from benchmarks.cost import load
from benchmarks.cost.load import WrongAnswerError, connect

BODY = b'{"id":17}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + BODY


class Server:
    """Answers each request with the same pieces, each in a packet of its own, and counts requests."""

    def __init__(self, pieces: Sequence[bytes], *, closes: bool = False) -> None:
        self.pieces, self.closes = pieces, closes
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while request := connection.recv(65536):
                self.requests.append(request)
                for piece in self.pieces:
                    connection.sendall(piece)
                if self.closes:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def _serving(*pieces: bytes, closes: bool = False) -> Iterator[Server]:
    server = Server(pieces, closes=closes)
    thread = threading.Thread(target=server.accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)


@pytest.mark.parametrize("cut", [1, 20, len(ANSWER) - 3, len(ANSWER) - len(BODY)])
def test_every_request_is_counted_once(cut: int) -> None:
    """What was sent is what was answered is what is counted, however an answer is cut into packets."""
    with _serving(ANSWER[:cut], ANSWER[cut:]) as server:
        with connect(server.port, 3, "/orders/17", BODY) as connections:
            first, second = connections.send(0.02), connections.send(0.02)
        assert len(first.latencies_ns) + len(second.latencies_ns) == len(server.requests)
        assert set(server.requests) == {
            b"GET /orders/17 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: application/json\r\n\r\n" % server.port
        }
    assert len(second.latencies_ns) >= 3
    assert second.latencies_ns == sorted(second.latencies_ns)
    assert second.latencies_ns[0] > 0
    assert second.latencies_ns[-1] <= second.took_s * 1e9
    assert second.rate == len(second.latencies_ns) / second.took_s


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b'{"id":18}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_wrong_answer(answer: bytes) -> None:
    """An answer that is not the expected one ends the run: nothing is fast that is wrong."""
    with (
        _serving(answer) as server,
        connect(server.port, 1, "/", BODY) as connections,
        pytest.raises(WrongAnswerError, match="not the answer"),
    ):
        connections.send(1)


def test_closed_connection() -> None:
    """A server that hangs up ends the run."""
    with (
        _serving(ANSWER, closes=True) as server,
        connect(server.port, 1, "/", BODY) as connections,
        pytest.raises(WrongAnswerError, match="closed"),
    ):
        connections.send(60)


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer ends the run."""
    monkeypatch.setattr(load, "ANSWER_TIMEOUT_S", 0.05)
    with (
        _serving(ANSWER[:-1]) as server,
        connect(server.port, 2, "/", BODY) as connections,
        pytest.raises(WrongAnswerError, match="2 requests had no answer"),
    ):
        connections.send(1)
