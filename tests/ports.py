"""Free ports for a whole `clearspan up`, whose ports all move together."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from observability.launcher import BASE_PORT, GRPC_PORT, OTLP_PORT, PAGE_PORT


def free_base_port(services: Sequence[int] = (BASE_PORT,)) -> int:
    """A `--port` with which the services of these ports, the pages and the receivers all find theirs free."""
    # Two test runs on one machine look in different places, since a port found free is not held until it is used. All
    # are below those that Linux gives to connections, for the same reason.
    for base in range(10_000 + os.getpid() % 350 * 37, 24_000, 37):
        with ExitStack() as held:
            try:
                for port in (*services, PAGE_PORT, OTLP_PORT, GRPC_PORT):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port - BASE_PORT + base))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


def free_ports(count: int) -> list[int]:
    """So many different ports of the loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
