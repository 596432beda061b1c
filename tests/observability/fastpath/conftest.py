"""A receiver of OTLP, and what tests leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observability.fastpath.parity import restore_background_tasks
from tests.observability.fastpath.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """It takes everything unless a test tells it otherwise."""
    with receiving() as one:
        yield one


@pytest.fixture(autouse=True)
def own_background_tasks() -> Iterator[None]:
    """No background task is traced by the application of a test before."""
    yield
    restore_background_tasks()
