"""The viewer as a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from observability.viewer.server import _listen, _url
from tests.observability.viewer.process import command, free_ports
from tests.observability.viewer.samples import PROTOBUF, nested

TRACE = nested(1, ["root"]).SerializeToString()


@contextmanager
def _running(port: int, otlp_port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A viewer that listens; its greeting is not read yet."""
    process = subprocess.Popen(
        command(port, otlp_port, folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _greeting(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_greeting_of_a_program(tmp_path: Path) -> None:
    """A program that reads its output gets one line; a first Ctrl-C ends it in order, without a word."""
    port, otlp_port = free_ports()
    with _running(port, otlp_port, tmp_path) as process:
        assert _greeting(process) == (
            f"traces are at http://127.0.0.1:{port}, OTLP over HTTP is received at http://127.0.0.1:{otlp_port}\n"
        )
        answer = httpx.post(f"http://127.0.0.1:{otlp_port}/v1/traces", content=TRACE, headers=PROTOBUF)
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0


def test_stop_during_a_request(tmp_path: Path) -> None:
    """A sender in the middle of its body is told to come again, and does not keep the viewer from ending in order."""
    port, otlp_port = free_ports()
    with _running(port, otlp_port, tmp_path) as process, socket.socket() as sender:
        _greeting(process)
        sender.connect(("127.0.0.1", otlp_port))
        sender.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
            b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
        )
        assert sender.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        process.send_signal(signal.SIGINT)
        assert sender.recv(1000).startswith(b"HTTP/1.1 503 ")
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0


def test_greeting_at_a_terminal(tmp_path: Path) -> None:
    """At a terminal it says where the pages are, and how a program is told to send."""
    port, otlp_port = free_ports()
    outer, inner = pty.openpty()
    process = subprocess.Popen(command(port, otlp_port, tmp_path), stdout=inner, stderr=inner)
    os.close(inner)
    with os.fdopen(outer) as terminal:
        try:
            lines = [terminal.readline().strip() for _ in range(4)]
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0
    assert lines == [
        f"traces are at http://127.0.0.1:{port}",
        "",
        f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{otlp_port}",
        "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    ]


@pytest.mark.parametrize("taken", [0, 1], ids=["pages", "otlp"])
def test_taken_port(tmp_path: Path, taken: int) -> None:
    """A taken port is one line that says which, and what to do."""
    ports = free_ports()
    with closing(socket.create_server(("127.0.0.1", ports[taken]))):
        ended = subprocess.run(command(*ports, tmp_path), capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
    assert f"port {ports[taken]} is taken" in ended.stderr


def test_unusable_folder(tmp_path: Path) -> None:
    """A folder that cannot be used is one line that says why, and what to do."""
    (tmp_path / "file").touch()
    ended = subprocess.run(
        command(*free_ports(), tmp_path / "file"), capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 1
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
    assert "--data-dir" in ended.stderr


def test_damaged_file(tmp_path: Path) -> None:
    """A damaged file is put aside in one line, and the viewer starts."""
    (tmp_path / "viewer.db").write_text("no database " * 100)
    with _running(*free_ports(), tmp_path) as process:
        assert _greeting(process).startswith("traces are at")
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert errors.count("\n") == 1
    assert "viewer.db.old" in errors


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_answers(host: str) -> None:
    """The event loop knows that it listens by TCP, for which it sends small answers without delay."""
    with closing(_listen(host, 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("::1", "http://[::1]:1"), ("0.0.0.0", "http://localhost:1")],
)
def test_url(host: str, url: str) -> None:
    """The address that is told is one that is answered."""
    assert _url(host, 1) == url


def test_endless_head(tmp_path: Path) -> None:
    """A request whose head never ends is cut off, on both ports, and not read into memory."""
    ports = free_ports()
    with _running(*ports, tmp_path) as process:
        _greeting(process)
        for port in ports:
            head = b"GET / HTTP/1.1\r\nx-endless: " + b"a" * 64 * 1024 * 1024
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sender, pytest.raises(ConnectionError):
                sender.sendall(head)


def test_second_viewer(tmp_path: Path) -> None:
    """Two viewers on one folder show the same traces, whichever received them."""
    first, second = free_ports(), free_ports()
    with _running(*first, tmp_path) as one, _running(*second, tmp_path) as other:
        _greeting(one)
        _greeting(other)
        for index, otlp_port in enumerate((first[1], second[1]), 1):
            trace = nested(index, ["root"]).SerializeToString()
            sent = httpx.post(f"http://127.0.0.1:{otlp_port}/v1/traces", content=trace, headers=PROTOBUF)
            assert sent.status_code == 200
        for port in (first[0], second[0]):
            assert len(httpx.get(f"http://127.0.0.1:{port}/api/find").json()["traces"]) == 2
