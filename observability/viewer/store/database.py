"""The viewer's SQLite file: its schema, and what becomes of a file that is not in it."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# Raised whenever the schema changes: telemetry is not worth a migration, so a file of another version is put aside.
VERSION = 3

_WAL_BYTES = 16 * 1024 * 1024
_CHECKPOINT_PAGES = 4000
_WRITER_CACHE_KIB = 32 * 1024
_READERS = 3
_WAIT_S = 10.0
_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_logger = logging.getLogger(__name__)


class DatabaseError(Exception):
    """The file cannot be used; the message says what to change."""


class Database:
    """`viewer.db` in a folder, made new if need be; for use in any thread.

    One connection writes and a few read, each read in a snapshot of its own, so that none waits for a write. A file
    that is damaged, or of another version, becomes `viewer.db.old` with a warning.
    """

    def __init__(self, folder: Path, schema: str) -> None:
        """Open it.

        Raises:
            DatabaseError: The folder cannot be written to, or the file is locked for good.
        """
        file = folder / "viewer.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _put_aside(file)
            self._writer = _connect(file)
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=NORMAL")
            self._writer.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
            self._writer.execute(f"PRAGMA cache_size={-_WRITER_CACHE_KIB}")
            self._writer.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            if not _version(self._writer):
                self._writer.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {VERSION};COMMIT;")
            self._readers = queue.LifoQueue[sqlite3.Connection]()
            for _ in range(_READERS):
                reader = _connect(file)
                reader.execute("PRAGMA query_only=ON")
                self._readers.put(reader)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(f"{file} cannot be used ({error}); choose another folder with --data-dir") from error
        self._write_lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close the file, when all who use it have ended."""
        with self._write_lock:
            if not self._closed:
                self._closed = True
                for _ in range(_READERS):
                    self._reader().close()
                self._writer.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, in a transaction that is undone if the caller raises."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # SQLite itself ends it when, for one, the disk is full
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads, and sees nothing that is written meanwhile.

        Raises:
            sqlite3.OperationalError: All were in use for too long.
        """
        reader = self._reader()
        try:
            reader.execute("BEGIN")
            try:
                yield reader
            finally:
                reader.execute("ROLLBACK")
        finally:
            self._readers.put(reader)

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._readers.get(timeout=_WAIT_S)
        except queue.Empty:
            raise sqlite3.OperationalError("too many read at once") from None


def bytes_in_use(connection: sqlite3.Connection) -> int:
    """Bytes of the file's pages that hold something."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _put_aside(file: Path) -> None:
    if file.exists() and not _is_ours(file):
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        old = file.replace(file.with_name("viewer.db.old"))
        _logger.warning("%s is damaged or of another version: it is kept as %s, and a new one begins", file, old)


def _is_ours(file: Path) -> bool:
    """Whether the file is empty or has this version's schema."""
    with closing(_connect(file)) as connection:
        try:
            version = _version(connection)
            return version == VERSION or (not version and not _tables(connection))
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _UNREADABLE:
                return False
            raise


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, check_same_thread=False, isolation_level=None)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _tables(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
