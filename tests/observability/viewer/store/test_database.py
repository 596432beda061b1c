from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from observability.viewer.store import Store
from observability.viewer.store import database as database_module
from observability.viewer.store.database import Database, DatabaseError
from tests.observability.viewer.samples import add, span, trace_id


def _text(file: Path) -> None:
    file.write_text("this is no database, and longer than the header of one " * 10)


def _damaged(file: Path) -> None:
    Store(file.parent).close()
    file.write_bytes(file.read_bytes()[:100] + b"\xff" * 8000)


def _cut_off(file: Path) -> None:
    Store(file.parent).close()
    file.write_bytes(file.read_bytes()[:5000])


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _without_version(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE spans (trace_id BLOB)")


@pytest.mark.parametrize("spoil", [_text, _damaged, _cut_off, _newer, _without_version])
def test_foreign_file(tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]) -> None:
    """A file that cannot be used is put aside as it was, says one line, and a new one begins."""
    spoil(tmp_path / "viewer.db")
    before = (tmp_path / "viewer.db").read_bytes()
    with caplog.at_level(logging.WARNING), closing(Store(tmp_path)) as store:
        add(store, span(1))
        assert len(store.trace(trace_id(1))) == 1
    assert (tmp_path / "viewer.db.old").read_bytes() == before
    assert len(caplog.records) == 1


def test_empty_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An empty file is a database that has just begun."""
    (tmp_path / "viewer.db").touch()
    with caplog.at_level(logging.WARNING):
        Store(tmp_path).close()
    assert caplog.records == []
    assert not (tmp_path / "viewer.db.old").exists()


def test_own_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of this version is opened as it is."""
    Store(tmp_path).close()
    with caplog.at_level(logging.WARNING):
        Store(tmp_path).close()
    assert caplog.records == []


@pytest.mark.parametrize("name", [".", "viewer.db"])
def test_unusable_folder(tmp_path: Path, name: str) -> None:
    """What stands in the way is named, and what to do about it."""
    folder = tmp_path / "data"
    if name == ".":
        folder.touch()
    else:
        (folder / name).mkdir(parents=True)
    with pytest.raises(DatabaseError, match=r"viewer\.db cannot be used .* --data-dir"):
        Database(folder, "")


def test_reader_only_reads(tmp_path: Path) -> None:
    """A reader cannot write."""
    with (
        closing(Database(tmp_path, "CREATE TABLE one (number INTEGER);")) as database,
        database.reading() as connection,
        pytest.raises(sqlite3.OperationalError),
    ):
        connection.execute("DELETE FROM one")


def test_snapshot(tmp_path: Path) -> None:
    """A reader sees nothing of what is written after it has begun to read."""
    with closing(Database(tmp_path, "CREATE TABLE one (number INTEGER);")) as database:
        with database.reading() as reader:
            assert reader.execute("SELECT count(*) FROM one").fetchone() == (0,)
            with database.writing() as writer:
                writer.execute("INSERT INTO one VALUES (1)")
            assert reader.execute("SELECT count(*) FROM one").fetchone() == (0,)
        with database.reading() as reader:
            assert reader.execute("SELECT count(*) FROM one").fetchone() == (1,)


def test_too_many_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reader too many does not wait for ever."""
    monkeypatch.setattr(database_module, "_WAIT_S", 0.01)
    with closing(Database(tmp_path, "")) as database, ExitStack() as stack:
        for _ in range(database_module._READERS):
            stack.enter_context(database.reading())
        with pytest.raises(sqlite3.OperationalError, match="too many"):
            stack.enter_context(database.reading())
