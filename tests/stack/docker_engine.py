"""Docker's engine, started for the tests alone, with a stand-in for the image that the Dockerfile is built on.

Its layers stay in `.stack/docker`, so that only the first build takes a minute or two. It needs root.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from observability.launcher import end_with_parent

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".stack"
NEEDED = ("dockerd", "docker", "debootstrap")
BASE = re.findall(r"^FROM (\S+) AS base$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]

_START_TIMEOUT_S = 60.0
_SUITE = "forky"
"""The Debian with the Dockerfile's Python; an older debootstrap makes it as it makes all newer ones."""
_SCRIPT = "/usr/share/debootstrap/scripts/sid"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Docker:
    """A running engine.

    Args:
        socket: Where it listens.
    """

    def __init__(self, socket: Path) -> None:
        # Neither the user's own settings nor a plugin, of which no two machines have the same.
        self._environment = os.environ | {
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_CONFIG": str(socket.parent / "config"),
            "DOCKER_BUILDKIT": "0",
        }

    def __call__(self, *arguments: str) -> str:
        """The result of a `docker` command, which has to succeed; its warnings differ from machine to machine."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout.strip()

    def logs(self) -> str:
        """The last lines of each container."""
        names = self("ps", "--all", "--format", "{{.Names}}").split()
        ends = {name: self.run("logs", "--tail", "5", name) for name in names}
        return "\n".join(f"{name}:\n{end.stdout}{end.stderr}" for name, end in ends.items())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What becomes of a `docker` command."""
        command = ["docker", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)


@contextmanager
def docker_engine() -> Iterator[Docker]:
    """Run an engine of our own while the block lasts."""
    CACHE.mkdir(exist_ok=True)
    # A socket's path may have a hundred characters, fewer than pytest's folders do.
    with tempfile.TemporaryDirectory(prefix="docker-") as name, (CACHE / "docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(name)
        docker = Docker(folder / "socket")
        command = ["dockerd", "--log-level=warn"]
        command += ["--host", f"unix://{folder / 'socket'}", "--pidfile", str(folder / "pid")]
        command += ["--data-root", str(CACHE / "docker"), "--exec-root", str(folder / "run")]
        # What changes nothing on the machine beyond an interface for each network.
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=end_with_parent)  # noqa: PLW1509 - see there
        try:
            _wait(docker, process, folder / "log")
            _forget_last_run(docker)
            yield docker
            _forget_last_run(docker)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for mount in _mounts(folder):
                subprocess.run(["umount", mount], check=True)


def _mounts(folder: Path) -> list[str]:
    """What the engine has left mounted below a folder, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def _wait(docker: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while docker.run("version").returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"dockerd does not run here:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def _forget_last_run(docker: Docker) -> None:
    """Remove containers, networks and volumes; the image stays, and its layers for a week."""
    if containers := docker("ps", "--all", "--quiet").split():
        docker("rm", "--force", "--volumes", *containers)
    docker("network", "prune", "--force")
    docker("volume", "prune", "--force")
    docker("image", "prune", "--force", "--filter", "until=168h")


def build(docker: Docker, tag: str) -> None:
    """Build the Dockerfile as it is."""
    if docker.run("image", "inspect", BASE).returncode:
        _build_base(docker)
    docker("build", "--network", "host", "--tag", tag, str(ROOT))


def _build_base(docker: Docker) -> None:
    """A Debian with Python and pip where the official image has them, and the certificates that this machine trusts."""
    folder = CACHE / "base"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,python3-pip", _SUITE, folder, _mirror(), _SCRIPT],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for mark in folder.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        if trusted := ssl.get_default_verify_paths().cafile:
            shutil.copy(trusted, folder / _CERTIFICATES.lstrip("/"))
        for downloaded in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(folder / downloaded)
        archive = CACHE / "base.tar"
        subprocess.run(["tar", "--directory", folder, "--create", "--file", archive, "."], check=True)
        docker("import", "--change", f"ENV SSL_CERT_FILE={_CERTIFICATES}", str(archive), BASE)
        archive.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mirror() -> str:
    """Where this machine's own packages come from."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]
