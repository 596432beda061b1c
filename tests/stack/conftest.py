"""The stack and a shop that tells it everything, once for all tests that do not break it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nats_server import NatsServer
from tests.observability.cache.redis_server import RedisServer
from tests.postgres import PostgresServer, postgres_server
from tests.running_shop import RunningShop, running_shop
from tests.stack.stack import Stack, running_stack
from tests.stack.trouble import trouble


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask for what went wrong one test right after the other: after five minutes of nothing rates are 0."""
    items.sort(key=lambda item: "troubled" in getattr(item, "fixturenames", ()))


@dataclass
class ObservedShop:
    """The shop on real servers, and the stack that it tells everything."""

    shop: RunningShop
    stack: Stack


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObservedShop]:
    """A shop on PostgreSQL, NATS and Redis, and the stack; no test may stop any of it."""
    with observed_shop(tmp_path_factory.mktemp("stack")) as one:
        yield one


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ObservedShop]:
    """The same, for a test alone, which may kill what it likes."""
    with observed_shop(tmp_path) as one:
        yield one


@pytest.fixture(scope="session")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that has what a shop of its own told, in which some things went wrong."""
    with observed_shop(tmp_path_factory.mktemp("trouble")) as one:
        trouble(one.shop)
        yield one.stack


@pytest.fixture(scope="session")
def prometheus(troubled: Stack) -> str:
    """Where a Prometheus answers that has the metrics of that shop."""
    return troubled.prometheus


@pytest.fixture(scope="session")
def loki(troubled: Stack) -> str:
    """Where a Loki answers that has the log lines of that shop."""
    return troubled.loki


@contextmanager
def observed_shop(folder: Path) -> Iterator[ObservedShop]:
    """Everything, running, around a block."""
    with ExitStack() as running:
        postgres: PostgresServer = running.enter_context(postgres_server())
        nats = NatsServer(folder / "nats")
        running.callback(nats.kill)
        nats.start()
        redis = RedisServer(folder)
        running.callback(redis.kill)
        redis.start()
        stack = running.enter_context(running_stack(folder))
        environment = {
            "DATABASE_URL": running.enter_context(postgres.database()),
            "BROKER_URL": nats.url,
            "REDIS_URL": redis.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp,
        }
        shop = running.enter_context(running_shop(folder / "shop", environment))
        yield ObservedShop(shop, stack)
