"""What every test shares: asyncio as the event loop, databases of its own, and no skipped test in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import PostgresServer, postgres_server

hypothesis.settings.register_profile("clearspan", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("clearspan")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for processes a third of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the services do."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests that do not stop it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def mortal_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may stop, kill and start again."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database."""
    with shared_postgres.database() as url:
        yield url


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Gives the URL of an empty database of a kind: `sqlite` or `postgresql`."""

    def url(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite+aiosqlite:///{tmp_path}/new/shop.db"
        assert kind == "postgresql"
        postgres: str = request.getfixturevalue("postgres_url")
        return postgres

    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    """An empty database of each kind that the services run on."""
    return empty_database(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test in CI: there everything that a test needs is installed."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
