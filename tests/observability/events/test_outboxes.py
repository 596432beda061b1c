"""All outboxes of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from observability.database import create_engine
from observability.events.outbox import outbox_table
from observability.events.outboxes import OutboxError, open_outboxes

pytestmark = pytest.mark.anyio


async def _create(path: Path, name: str) -> None:
    engine = create_engine(f"sqlite+aiosqlite:///{path}")
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table(name).create)
    await engine.dispose()


async def test_found(tmp_path: Path) -> None:
    """Services that have an outbox are found, and to look for the others' makes no files."""
    await _create(tmp_path / "orders.db", "orders")
    await _create(tmp_path / "inventory.db", "another")
    async with open_outboxes(["orders", "inventory", "payments"], tmp_path, None) as outboxes:
        assert list(outboxes) == ["orders"]
        assert await outboxes["orders"].unsent(10) == []
    assert not (tmp_path / "payments.db").exists()


async def test_shared_database(postgres_url: str, tmp_path: Path) -> None:
    """In a database that several services share each has its own outbox."""
    engine = create_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.run_sync(outbox_table("orders").create)
        await connection.run_sync(outbox_table("shipping").create)
    await engine.dispose()
    async with open_outboxes(["orders", "payments", "shipping"], tmp_path, postgres_url) as outboxes:
        assert list(outboxes) == ["orders", "shipping"]


async def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no database is named with the reason."""
    (tmp_path / "orders.db").write_text("not a database, though it has more than the hundred bytes of a header" * 9)
    with pytest.raises(OutboxError, match="the database of orders cannot be read: file is not a database"):
        async with open_outboxes(["orders"], tmp_path, None):
            pass


async def test_not_a_url(tmp_path: Path) -> None:
    """A URL that is none is refused in one line that does not quote it."""
    with pytest.raises(OutboxError, match="not a database URL") as caught:
        async with open_outboxes(["orders"], tmp_path, "canary"):
            pass
    assert "canary" not in str(caught.value)
