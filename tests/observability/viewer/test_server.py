"""The viewer as a process of its own."""

from __future__ import annotations

import gzip
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from observability.viewer.body import MAX_BODY_BYTES
from observability.viewer.server import Ports, _is_loopback, _listen, _url
from observability.viewer.server import _greeting as _server_greeting
from tests.forked import ForkedCommand
from tests.observability.viewer.process import command, free_ports, options, running_viewer
from tests.observability.viewer.samples import PROTOBUF, nested

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TRACE = nested(1, ["root"]).SerializeToString()


@contextmanager
def _running(
    port: int, otlp_port: int, folder: Path, *more: str, grpc_port: int | None = None, **environment: str
) -> Iterator[ForkedCommand]:
    """A viewer that listens; its greeting is not read yet."""
    told = options(port, otlp_port, folder, *more, grpc_port=grpc_port)
    with closing(ForkedCommand(["viewer", *told], os.environ | environment)) as process:
        yield process


def test_greeting_of_a_program(tmp_path: Path) -> None:
    """A program that reads its output gets one line; a first Ctrl-C ends it in order, without a word."""
    (port, otlp_port), (grpc_port, _) = free_ports(), free_ports()
    starting = command(port, otlp_port, tmp_path, grpc_port=grpc_port)
    with subprocess.Popen(starting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == (
                f"traces are at http://127.0.0.1:{port}, OTLP is received over HTTP at http://127.0.0.1:{otlp_port}, "
                f"over gRPC at http://127.0.0.1:{grpc_port}\n"
            )
            answer = httpx.post(f"http://127.0.0.1:{otlp_port}/v1/traces", content=TRACE, headers=PROTOBUF)
            assert answer.status_code == 200
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()


def test_stop_during_a_request(tmp_path: Path) -> None:
    """A sender in the middle of its body is told to come again, and does not keep the viewer from ending in order."""
    port, otlp_port = free_ports()
    with _running(port, otlp_port, tmp_path) as process, socket.socket() as sender:
        process.readline()
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
    (grpc_port, _) = free_ports()
    process = subprocess.Popen(command(port, otlp_port, tmp_path, grpc_port=grpc_port), stdout=inner, stderr=inner)
    os.close(inner)
    with os.fdopen(outer) as terminal:
        try:
            lines = [terminal.readline().strip() for _ in range(6)]
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0
    assert lines == [
        f"traces are at http://127.0.0.1:{port}",
        "",
        f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{otlp_port}",
        "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        "",
        f"or over gRPC, OTEL_EXPORTER_OTLP_PROTOCOL=grpc, at http://127.0.0.1:{grpc_port}",
    ]


def _refused(told: list[str], environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """What a viewer writes that does not start."""
    with closing(ForkedCommand(["viewer", *told], environment)) as process:
        written = process.communicate(timeout=20)
        assert process.returncode == 1
        return written


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["pages", "http", "grpc"])
def test_taken_port(tmp_path: Path, taken: int) -> None:
    """A taken port is one line that says which, and what to do."""
    ports = [*free_ports(), free_ports()[0]]
    with closing(socket.create_server(("127.0.0.1", ports[taken]))):
        out, err = _refused(options(ports[0], ports[1], tmp_path, grpc_port=ports[2]))
    assert (out, err.count("\n")) == ("", 1)
    assert f"port {ports[taken]} is taken" in err


def test_unusable_folder(tmp_path: Path) -> None:
    """A folder that cannot be used is one line that says why, and what to do."""
    (tmp_path / "file").touch()
    out, err = _refused(options(*free_ports(), tmp_path / "file"))
    assert (out, err.count("\n")) == ("", 1)
    assert "--data-dir" in err


def test_damaged_file(tmp_path: Path) -> None:
    """A damaged file is put aside in one line, and the viewer starts."""
    (tmp_path / "viewer.db").write_text("no database " * 100)
    with _running(*free_ports(), tmp_path) as process:
        assert process.readline().startswith("traces are at")
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


def test_second_loopback(tmp_path: Path) -> None:
    """Over the loopback's other address all three ports answer, too."""
    (port, otlp_port), (grpc_port, _) = free_ports(), free_ports()
    with _running(port, otlp_port, tmp_path, "--host", "::1", grpc_port=grpc_port) as process:
        process.readline()
        assert httpx.post(f"http://[::1]:{otlp_port}/v1/traces", content=TRACE, headers=PROTOBUF).status_code == 200
        with grpc.insecure_channel(f"[::1]:{grpc_port}") as channel:
            assert _export(channel)(TRACE) == b""
        assert len(httpx.get(f"http://[::1]:{port}/api/find").json()["traces"]) == 1


def test_endless_head(tmp_path: Path) -> None:
    """A request whose head never ends is cut off, on both ports, and not read into memory."""
    ports = free_ports()
    with _running(*ports, tmp_path) as process:
        process.readline()
        for port in ports:
            head = b"GET / HTTP/1.1\r\nx-endless: " + b"a" * 64 * 1024 * 1024
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sender, pytest.raises(ConnectionError):
                sender.sendall(head)


def test_too_large_body(tmp_path: Path) -> None:
    """A sender that sends too much gets to its end and is told so, and not cut off, after which it would come again."""
    with running_viewer(tmp_path) as viewer, httpx.Client() as sender:
        for _ in range(3):
            answer = sender.post(f"{viewer.otlp}/v1/traces", content=bytes(2 * MAX_BODY_BYTES), headers=PROTOBUF)
            assert answer.status_code == 413


def test_bombs(tmp_path: Path) -> None:
    """What would inflate to far more than the bound is refused before it takes the memory, over either protocol."""
    size = 256 * 1024 * 1024
    bombs = {"gzip": gzip.compress(bytes(size), 1), "zstd": zstd.compress(bytes(size))}
    with running_viewer(tmp_path) as viewer:
        before = _peak_memory(viewer.pid)
        for signal_name in ("traces", "logs", "metrics"):
            for encoding, bomb in bombs.items():
                headers = PROTOBUF | {"content-encoding": encoding}
                answer = httpx.post(f"{viewer.otlp}/v1/{signal_name}", content=bomb, headers=headers, timeout=20)
                assert answer.status_code == 413
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(viewer.grpc.removeprefix("http://"), options, grpc.Compression.Gzip) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                _export(channel)(bytes(size))
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _peak_memory(viewer.pid) - before < 64 * 1024 * 1024


def _peak_memory(pid: int) -> int:
    """The most that a process has had in memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell")


def _export(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")


def test_second_viewer(tmp_path: Path) -> None:
    """Two viewers on one folder show the same traces, whichever received them."""
    first, second = free_ports(), free_ports()
    with _running(*first, tmp_path) as one, _running(*second, tmp_path) as other:
        one.readline()
        other.readline()
        for index, otlp_port in enumerate((first[1], second[1]), 1):
            trace = nested(index, ["root"]).SerializeToString()
            sent = httpx.post(f"http://127.0.0.1:{otlp_port}/v1/traces", content=trace, headers=PROTOBUF)
            assert sent.status_code == 200
        for port in (first[0], second[0]):
            assert len(httpx.get(f"http://127.0.0.1:{port}/api/find").json()["traces"]) == 2


def test_token(tmp_path: Path) -> None:
    """Beyond the loopback everybody is asked for the token, which is printed once and shows nowhere else."""
    (port, otlp_port), (grpc_port, _) = free_ports(), free_ports()
    with _running(port, otlp_port, tmp_path, "--host", "0.0.0.0", grpc_port=grpc_port) as process:
        greeting = process.readline()
        page, _, token = greeting.split(",")[0].removeprefix("traces are at ").partition("/#token=")
        assert page == f"http://localhost:{port}"
        bearer = {"authorization": f"Bearer {token}"}
        otlp = f"http://localhost:{otlp_port}/v1/traces"
        assert httpx.post(otlp, content=TRACE, headers=PROTOBUF).status_code == 401
        assert httpx.post(otlp, content=TRACE, headers=PROTOBUF | bearer).status_code == 200
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            with pytest.raises(grpc.RpcError):
                _export(channel)(TRACE)
            _export(channel)(TRACE, metadata=(("authorization", f"Bearer {token}"),))
        assert httpx.get(f"{page}/api/find").status_code == 401
        with httpx.Client(base_url=page) as reader:
            seen = [reader.get("/").text, reader.post("/login", headers=bearer).text]
            seen += [str(reader.cookies)] + [reader.get(path).text for path in ("/", "/api/find", "/pages/login.js")]
        process.send_signal(signal.SIGINT)
        rest = "".join(process.communicate(timeout=10))
    assert "root" in seen[4]
    for text in (rest, *seen, *(file.read_bytes().decode("latin-1") for file in tmp_path.iterdir())):
        assert token not in text


def test_given_token(tmp_path: Path) -> None:
    """A token that was given is not printed; one that could be guessed is refused, in one line."""
    port, otlp_port = free_ports()
    given = "a secret of the test"
    with _running(port, otlp_port, tmp_path, "--host", "0.0.0.0", CLEARSPAN_VIEWER_TOKEN=given) as process:
        assert process.readline().startswith(f"traces are at http://localhost:{port}, ")
        bearer = {"authorization": f"Bearer {given}"}
        assert httpx.get(f"http://localhost:{port}/api/find", headers=bearer).status_code == 200
    short = os.environ | {"CLEARSPAN_VIEWER_TOKEN": "short"}
    assert _refused(options(*free_ports(), tmp_path, "--host", "0.0.0.0"), short) == (
        "",
        "clearspan: CLEARSPAN_VIEWER_TOKEN must have at least 16 characters, all of them ASCII\n",
    )


@pytest.mark.parametrize("origin", ["https://shop.example/", "shop.example", "*", "null", ""])
def test_no_origin(tmp_path: Path, origin: str) -> None:
    """What is no origin, and would never be that of a page, is refused in one line."""
    told = _refused(options(*free_ports(), tmp_path, "--allow-origin", origin))
    assert told == ("", f"clearspan: {origin!r} is no origin; write one like https://shop.example\n")


def test_greeting_with_token() -> None:
    """At a terminal the token comes in the forms that a browser and an exporter take."""
    lines = _server_greeting("0.0.0.0", Ports(1, 2, 3), "a-token", whole=True).splitlines()
    assert lines[0] == "traces are at http://localhost:1/#token=a-token"
    assert "export OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20a-token" in lines


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only an address that no other machine can reach goes without a token."""
    assert _is_loopback(host) == loopback
