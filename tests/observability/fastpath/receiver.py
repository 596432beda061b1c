"""A real receiver of OTLP over HTTP that answers what a test tells it to."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = {"content-type": "application/x-protobuf"}


@dataclass(frozen=True)
class Answer:
    """What is answered to one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(PROTOBUF))
    body: bytes = b""


class Receiver(ThreadingHTTPServer):
    """Keeps what it receives; gives the answers that it was told in turn, and then takes everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[Answer] = deque()
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.max_bytes = 1 << 30
        self.go_on = threading.Event()
        self.go_on.set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def names(self) -> list[str]:
        """The spans' names of all requests, refused ones too, in their order."""
        return [
            span.name
            for _, body in self.requests
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        encoding = self.headers.get("content-encoding")
        body = gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding else body
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(({"path": self.path, "port": str(self.client_address[1]), **headers}, body))
        self.server.go_on.wait(20)
        if len(body) > self.server.max_bytes:
            answer = Answer(413)
        else:
            answer = self.server.answers.popleft() if self.server.answers else Answer()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        with suppress(OSError):  # who sent it may have gone meanwhile
            self.end_headers()
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go_on.set()
            receiver.shutdown()
            thread.join(5)
