"""The viewer's SQLite file: its schema, and what becomes of a file that is not in it."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

# Raised whenever the schema changes: telemetry is not worth a migration, so a file of another version is put aside.
VERSION = 2

_WAL_BYTES = 16 * 1024 * 1024
_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# A trace's number says when it arrived. Rows of spans and logs lie in the order of arrival too, so that letting the
# oldest trace go frees whole pages, which SQLite uses again.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS traces (
    number INTEGER PRIMARY KEY, trace_id BLOB NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0,
    spans INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
    start_ns INTEGER, end_ns INTEGER -- NULL while only logs have come
);
CREATE INDEX IF NOT EXISTS traces_by_start ON traces (start_ns);
CREATE TABLE IF NOT EXISTS spans (
    trace INTEGER NOT NULL, span_id BLOB NOT NULL, parent_id BLOB NOT NULL,
    service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, error INTEGER NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    span BLOB NOT NULL, resource BLOB NOT NULL, scope BLOB NOT NULL,
    UNIQUE (trace, span_id)
);
CREATE INDEX IF NOT EXISTS spans_by_rank ON spans (trace, parent_id != x'', start_ns); -- a trace's root comes first
CREATE TABLE IF NOT EXISTS services (
    trace INTEGER NOT NULL, service TEXT NOT NULL, start_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, errors INTEGER NOT NULL, PRIMARY KEY (trace, service)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS services_by_start ON services (service, start_ns);
CREATE TABLE IF NOT EXISTS operations (
    service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, last_trace INTEGER NOT NULL,
    PRIMARY KEY (service, name, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS operations_by_last_trace ON operations (last_trace);
CREATE TABLE IF NOT EXISTS logs (
    trace INTEGER NOT NULL, span_id BLOB NOT NULL, time_ns INTEGER NOT NULL,
    service TEXT NOT NULL, record BLOB NOT NULL, resource BLOB NOT NULL, scope BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS logs_by_trace ON logs (trace, time_ns);
CREATE TABLE IF NOT EXISTS instruments (
    number INTEGER PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
    description TEXT NOT NULL, type TEXT NOT NULL, monotonic INTEGER NOT NULL, delta INTEGER NOT NULL,
    UNIQUE (service, name)
);
CREATE TABLE IF NOT EXISTS series (
    number INTEGER PRIMARY KEY, instrument INTEGER NOT NULL, kind TEXT NOT NULL, attributes BLOB NOT NULL,
    last_ns INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (instrument, kind, attributes)
);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL, time_ns INTEGER NOT NULL, point BLOB NOT NULL, PRIMARY KEY (series, time_ns)
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""

_logger = logging.getLogger(__name__)


class DatabaseError(Exception):
    """The file cannot be used; the message says what to change."""


def open_database(folder: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open `viewer.db`, made new if need be.

    A file that is damaged, or of another version, becomes `viewer.db.old` with a warning.

    Returns:
        A connection to write with and one that only reads and never waits for a writer; both for use in any thread.

    Raises:
        DatabaseError: The folder cannot be written to, or the file is locked for good.
    """
    file = folder / "viewer.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and not _is_ours(file):
            for suffix in ("-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            old = file.replace(file.with_name("viewer.db.old"))
            _logger.warning("%s is damaged or of another version: it is kept as %s, and a new one begins", file, old)
        writer = _connect(file)
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA synchronous=NORMAL")
        writer.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        if not _version(writer):
            writer.executescript(_SCHEMA)
        reader = _connect(file)
        reader.execute("PRAGMA query_only=ON")
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"{file} cannot be used ({error}); choose another folder with --data-dir") from error
    return writer, reader


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
