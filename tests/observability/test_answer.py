"""Whether an answer has begun."""

from __future__ import annotations

import pytest
from starlette.types import Message

from observability.answer import Answer

pytestmark = pytest.mark.anyio


async def test_begun() -> None:
    """An answer has begun with its first message, and each goes on as it is."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    answer = Answer(send)
    assert not answer.begun
    messages: list[Message] = [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}]
    for message in messages:
        await answer.send(message)
        assert answer.begun
    assert sent == messages
