"""A real HAProxy of the tests' own, in front of instances that come and go."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from observability.launcher import end_with_parent

# It tries nothing again: whatever it is refused, its client is.
_CONFIG = """\
defaults
  retries 0
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout check 5s
  option httpchk GET /readyz
  default-server check inter 100ms fall 2 rise 1 init-addr none

# As an Ingress or a Gateway does: each request by itself, over connections that it keeps.
listen requests
  mode http
  bind 127.0.0.1:{requests}
  http-reuse always
{servers}

# As a Kubernetes Service does: a connection stays with the instance that it was made to.
listen connections
  mode tcp
  bind 127.0.0.1:{connections}
{servers}

listen statistics
  mode http
  bind 127.0.0.1:{statistics}
  stats enable
  stats uri /
"""


@dataclass(frozen=True)
class Proxy:
    """Where it listens, and what it thinks of its instances.

    Attributes:
        requests: The URL under which each request goes to an instance that is ready.
        connections: The URL under which each new connection does, with all of its requests.
    """

    requests: str
    connections: str
    _statistics: str

    def ready(self) -> set[str]:
        """The names of the instances that get requests as well as connections."""
        # By hand: an httpx.Client reads all certificates, which would keep the processor busy while one waits.
        with closing(HTTPConnection(self._statistics, timeout=5)) as connection:
            connection.request("GET", "/;csv")
            text = connection.getresponse().read().decode()
        rows = [row for row in csv.DictReader(text.removeprefix("# ").splitlines()) if row["status"] == "UP"]
        return set.intersection(
            *({row["svname"] for row in rows if row["pxname"] == name} for name in ("requests", "connections"))
        )

    def wait_for(self, name: str) -> None:
        """Return when an instance gets requests."""
        deadline = time.monotonic() + 20
        while name not in self.ready():
            assert time.monotonic() < deadline, f"{name} is not ready for HAProxy"
            time.sleep(0.02)


@contextmanager
def haproxy(folder: Path, ports: tuple[int, int, int], instances: Mapping[str, int]) -> Iterator[Proxy]:
    """A proxy on three free ports, in front of instances by name and port, each of which may or may not run."""
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if program is None:
        pytest.skip("HAProxy is not installed: apt-get install haproxy")
    requests, connections, statistics = ports
    servers = "\n".join(f"  server {name} 127.0.0.1:{port}" for name, port in instances.items())
    config = folder / "haproxy.cfg"
    config.write_text(
        _CONFIG.format(requests=requests, connections=connections, statistics=statistics, servers=servers)
    )
    with (folder / "haproxy.log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen(
            [program, "-db", "-f", config],
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one system call
        )
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        _wait_until_listening(process, statistics)
        requests_url, connections_url = (f"http://127.0.0.1:{port}" for port in (requests, connections))
        yield Proxy(requests_url, connections_url, f"127.0.0.1:{statistics}")


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("HAProxy did not start")
