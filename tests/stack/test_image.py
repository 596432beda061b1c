"""The services' image: really built, and run as compose.yaml runs it."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.stack.docker_engine import NEEDED, Docker, build, docker_engine

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

IMAGE = "clearspan"
SERVICES = ("inventory", "payments", "shipping", "orders")
TOKEN = "canary-of-the-events"

TMP = "/tmp"  # noqa: S108 - the container's

LOCKED = ["--read-only", "--tmpfs", TMP, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
LOCKED += ["--user", "10001:10001"]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """An engine that has the image, built from the Dockerfile as it is."""
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; apt-get install docker.io debootstrap")
    with docker_engine() as docker:
        build(docker, IMAGE)
        yield docker


@dataclass
class Receiver:
    """An OTLP receiver that keeps, of each trace, which service told which span."""

    url: str
    spans: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        """Keep the spans of one request."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = (one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.trace_id.hex(), set()).add((service, span.name))


@contextmanager
def receiver(host: str) -> Iterator[Receiver]:
    """Listen where the containers of a network can reach it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                found.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Say nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        found = Receiver(f"http://{host}:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Shop:
    """Four containers of the image, where orders is published, and what they told of themselves."""

    docker: Docker
    network: str
    orders: str
    received: Receiver

    def order(self, sku: str) -> httpx.Response:
        """Place an order from outside."""
        return httpx.post(f"{self.orders}/orders", json={"sku": sku, "quantity": 1}, timeout=20, trust_env=False)

    def state(self, order_id: str) -> str:
        """The state of an order."""
        state: str = httpx.get(f"{self.orders}/orders/{order_id}", timeout=20, trust_env=False).json()["state"]
        return state


@pytest.fixture
def shop(docker: Docker, tmp_path: Path) -> Iterator[Shop]:
    """The shop, whose spans wait in the services until these end."""
    secret = _secret(tmp_path, 0o444)
    docker("network", "create", "shop")
    gateway = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "shop")
    try:
        with receiver(gateway) as received:
            for name in SERVICES:
                docker(
                    *("run", "--detach", "--name", name, "--network", "shop", *LOCKED),
                    *("--volume", f"{name}:/data", "--volume", f"{secret}:/run/secrets/{secret.name}:ro"),
                    *("--publish", "127.0.0.1::8000", "--health-interval", "1s"),
                    *(
                        "--env",
                        f"OTEL_EXPORTER_OTLP_ENDPOINT={received.url}",
                        "--env",
                        "OTEL_BSP_SCHEDULE_DELAY=600000",
                    ),
                    *(word for peer in SERVICES for word in ("--env", f"{peer.upper()}_URL=http://{peer}:8000")),
                    *(IMAGE,) + (() if name == "orders" else ("clearspan", "serve", name)),
                )
            _until(lambda: all(_health(docker, name) == "healthy" for name in SERVICES), docker)
            yield Shop(docker, "shop", f"http://{docker('port', 'orders', '8000')}", received)
    finally:
        docker("rm", "--force", "--volumes", *docker("ps", "--all", "--quiet").split())
        docker("network", "rm", "shop")


def _secret(folder: Path, mode: int) -> Path:
    path = folder / "CLEARSPAN_EVENTS_TOKEN"
    path.write_text(f"{TOKEN}\n")
    path.chmod(mode)
    return path


def _health(docker: Docker, name: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name)


def _until(holds: Callable[[], bool], docker: Docker) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, docker.logs()
        time.sleep(0.1)


def test_order(shop: Shop) -> None:
    """An order goes through four containers, and all of its spans are told, the last ones when these are stopped.

    Events between them prove the secret, and Docker's ten seconds are enough: who needs more is killed, and exits 137.
    """
    placed = shop.order("mug")
    assert placed.status_code == 201, placed.text
    _until(lambda: shop.state(placed.json()["id"]) == "confirmed", shop.docker)
    assert shop.received.spans == {}
    shop.docker("stop", *SERVICES)
    codes = shop.docker("inspect", "--format", "{{.State.ExitCode}}", *SERVICES)
    assert codes.split() == ["0"] * len(SERVICES)
    (spans,) = (spans for spans in shop.received.spans.values() if ("orders", "POST /orders") in spans)
    assert {service for service, _ in spans} == set(SERVICES)
    assert ("orders", "process shipment.created") in spans
    assert TOKEN not in shop.docker("inspect", *SERVICES)


def test_stopped_under_load(shop: Shop) -> None:
    """Orders that is stopped while the image's load generator asks it ends in time and tells all; so does this one."""
    run = ["run", "--detach", "--name", "load", "--network", shop.network, *LOCKED, IMAGE]
    shop.docker(*run, "clearspan", "load", "http://orders:8000", "--rate", "20")
    _until(lambda: "201: " in shop.docker("logs", "load"), shop.docker)
    shop.docker("stop", "orders")
    shop.docker("stop", "load")
    assert shop.docker("inspect", "--format", "{{.State.ExitCode}}", "orders", "load").split() == ["0", "0"]
    table = [line.split() for line in shop.docker("logs", "load").splitlines()[-6:-1]]
    assert [row[0] for row in table] == ["mug", "declined", "anvil", "list", "all"]
    placed = int(table[-1][table[-1].index("201:") + 1].rstrip(","))
    assert sum(("orders", "POST /orders") in spans for spans in shop.received.spans.values()) >= placed > 0


def test_locked_down(docker: Docker) -> None:
    """It runs without root, rights and a way to get them, and writes to its volume and `/tmp` alone."""
    code = """
import json, os, pathlib
def writable(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
    except OSError as error:
        return error.strerror
    return True
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "rights": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no new ones": status["NoNewPrivs"].strip(),
    "writable": {folder: writable(folder) for folder in ("/", "/app", "/run", "/tmp", "/data")},
    "project": sorted(os.listdir("/app")),
}))
"""
    found = json.loads(docker("run", "--rm", *LOCKED, IMAGE, "python", "-c", code))
    read_only = "Read-only file system"
    assert found == {
        "user": [10001, 10001],
        "rights": 0,
        "no new ones": "1",
        "writable": {"/": read_only, "/app": read_only, "/run": read_only, TMP: True, "/data": True},
        "project": [".venv", "pyproject.toml"],
    }


def test_compiled(docker: Docker) -> None:
    """Everything is compiled already: who can write nothing would compile it at each start and each health check."""
    code = """
import sys
from importlib.util import cache_from_source
from pathlib import Path
import observability.cli, service.orders.app
files = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
print([str(file) for file in files if file.suffix == ".py" and not Path(cache_from_source(file)).exists()])
"""
    assert docker("run", "--rm", *LOCKED, IMAGE, "python", "-c", code) == "[]"


def test_unreadable_secret(docker: Docker, tmp_path: Path) -> None:
    """A secret that only root can read, as files on the host often are, is named in one line, and ends the service."""
    secret = _secret(tmp_path, 0o400)
    mounted = f"/run/secrets/{secret.name}"
    result = docker.run("run", "--rm", *LOCKED, "--volume", f"{secret}:{mounted}:ro", IMAGE)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"clearspan: the secret {mounted} cannot be read: Permission denied"
