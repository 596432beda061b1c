"""A real PostgreSQL of the tests' own: its port and folder, killed and restarted at will."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO

import psutil
import pytest

from observability.launcher import end_with_parent

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
}
"""Reached by the loopback alone, and quick: what a loss of power would do to the files is not tested."""


@dataclass
class PostgresServer:
    """A PostgreSQL that a test may stop or kill, and start again on the same port with the same data.

    Attributes:
        url: Its database `postgres`, as SQLAlchemy takes it. The user is a superuser without a password.
    """

    url: str
    _bin: Path
    _folder: Path
    _port: int
    _process: subprocess.Popen[str] | None = None
    _log: threading.Thread | None = None
    _names: Iterator[int] = field(default_factory=count)

    @property
    def processes(self) -> list[psutil.Process]:
        """The server's process and those it has started, one for each connection among them."""
        if self._process is None:
            return []
        server = psutil.Process(self._process.pid)
        return [server, *server.children()]

    def start(self) -> None:
        """Start it, and return when it answers. It ends with the thread that has called this."""
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._folder / "data", "-p", str(self._port), *options],
            cwd=self._folder,
            stderr=subprocess.PIPE,
            text=True,
            user=_user(),
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one system call
        )
        assert self._process.stderr is not None
        told = []
        for line in self._process.stderr:
            told.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError("".join(told))
        self._log = threading.Thread(target=_drain, args=(self._process.stderr,), daemon=True)
        self._log.start()

    def stop(self) -> None:
        """Shut it down in order: what runs is broken off, and each client is told."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._ended()

    def kill(self) -> None:
        """End it and all its processes at once, as a loss of power does."""
        # Of those that outlived it the next start would find the shared memory in use.
        processes = self.processes
        for process in processes:
            process.kill()
        if self._process is not None:
            self._ended()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                while process.status() != psutil.STATUS_ZOMBIE:  # when init takes those away is its own affair
                    pass

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database that is dropped at the end, whoever is still connected."""
        name = f"test_{next(self._names)}"
        self._run("createdb", name)
        yield self.url.removesuffix("postgres") + name
        self._run("dropdb", "--force", name)

    def _run(self, program: str, *arguments: str) -> None:
        at = ("--host=127.0.0.1", f"--port={self._port}", "--username=postgres")
        subprocess.run([self._bin / program, *at, *arguments], check=True)

    def _ended(self) -> None:
        assert self._process is not None
        assert self._log is not None
        self._process.wait(20)
        self._log.join()
        self._process = None


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A new cluster of databases, running; whatever was done with it, it is gone at the end."""
    if (installed := programs()) is None:
        pytest.fail("PostgreSQL is not installed, which these tests run on: apt-get install postgresql", pytrace=False)
    with tempfile.TemporaryDirectory(prefix="postgres-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder, port = Path(name), free.getsockname()[1]
        free.close()
        if (user := _user()) is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        made = subprocess.run(
            [installed / "initdb", "-D", folder / "data", *options],
            cwd=folder,
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        server = PostgresServer(f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres", installed, folder, port)
        server.start()
        try:
            yield server
        finally:
            server.kill()  # a test may have left it unable to stop


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, if it is installed; Debian keeps them off the PATH, by version."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def _user() -> str | None:
    """Whom to run it as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _drain(log: IO[str]) -> None:
    """Read what is written, so that whoever writes it never waits."""
    with log:
        for _ in log:
            pass
