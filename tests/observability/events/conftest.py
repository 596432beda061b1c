"""A NATS server for a module's tests, and names of their own for the streams of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from observability.events.nats.streams import Streams
from tests.nats_server import NatsServer

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for all tests of a module, none of which may stop it."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), max_payload=64 * 1024)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own, which has a port and is not started."""
    server = NatsServer(tmp_path / "nats")
    server.reserve()
    yield server
    server.kill()


@pytest.fixture
def streams() -> Streams:
    """Streams that no other test uses."""
    return Streams(f"T{next(_NUMBERS)}", max_bytes=64 * 1024**2, dead_max_bytes=16 * 1024**2)
