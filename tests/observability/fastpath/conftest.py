"""A receiver of OTLP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observability.fastpath.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """It takes everything unless a test tells it otherwise."""
    with receiving() as one:
        yield one
