"""A store, and clients of the two applications on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.intake import Intake
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store with room for 2 MiB."""
    store = Store(tmp_path, max_bytes=2 * 1024 * 1024)
    yield store
    store.close()


@pytest.fixture
def arrivals() -> Arrivals:
    """What the receiver of the store has received."""
    return Arrivals()


@pytest.fixture
async def pages(store: Store, arrivals: Arrivals) -> AsyncIterator[httpx.AsyncClient]:
    """A reader of the store."""
    transport = httpx.ASGITransport(create_pages(store, arrivals, otlp_url="http://127.0.0.1:4318"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def receiver(store: Store, arrivals: Arrivals) -> AsyncIterator[httpx.AsyncClient]:
    """A sender to the store."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_receiver(Intake(store, Bodies(), arrivals))), base_url="http://localhost"
    ) as client:
        yield client
