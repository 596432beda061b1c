"""What the tests of the chain share: virtual time, and a dependency that answers as it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from observability.resilience.decisions import Decision
from tests.virtual_time import VirtualTimeLoop

Answer = int | httpx.Response | Exception | Callable[[], Awaitable[httpx.Response]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Timeouts and waits take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Dependency(httpx.AsyncBaseTransport):
    """Answers with each of `answers` in turn, the last one for good; keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers) or [200]
        self.requests: list[httpx.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer)
        return answer if isinstance(answer, httpx.Response) else await answer()

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def decisions() -> list[Decision]:
    """What a step decided; its `append` is what a step tells."""
    return []
