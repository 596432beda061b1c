"""The shop, the viewer and Redis as processes of their own, each of which can be killed and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from drills.metrics import EXPORT_INTERVAL_S, Metrics
from drills.servers import ServerMember, postgresql_and_nats
from observability.faults.remote import RemoteFaults
from observability.launcher import development_environment, end_with_parent, read_services

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S, STOP_TIMEOUT_S = 40.0, 15.0

_TAKE_FAULTS = ("inventory", "payments")


@dataclass
class Member:
    """One process: how it is started, and where it says that it is ready."""

    name: str
    command: list[str]
    environment: dict[str, str]
    url: str
    probe: str
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; `ready` waits for it."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the drill, which stops it in order
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    async def ready(self) -> None:
        """Wait until it is.

        Raises:
            TimeoutError: It is not within START_TIMEOUT_S.
            RuntimeError: It ended in its place.
        """
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                with suppress(httpx.TransportError, RedisError):
                    if await self._answers(client):
                        return
                if self.process is not None and self.process.returncode is not None:
                    raise RuntimeError(f"{self.name} did not start; {self.log} says why")
                await asyncio.sleep(0.05)

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        return (await client.get(f"{self.url}{self.probe}")).is_success

    async def kill(self) -> None:
        """End it without a warning."""
        assert self.process is not None  # noqa: S101 - it was started
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """End it in order, or kill it if that takes too long."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            await self.kill()

    def look(self) -> psutil.Process:
        """The process, for its memory and sockets."""
        assert self.process is not None  # noqa: S101 - it was started
        return psutil.Process(self.process.pid)


class _Redis(Member):
    """Redis, which does not speak HTTP and has no probe."""

    async def _answers(self, _client: httpx.AsyncClient) -> bool:
        async with Redis.from_url(self.url) as redis:
            return bool(await redis.ping())


@dataclass
class Shop:
    """The running shop: its processes by name, and what they count."""

    members: dict[str, Member | ServerMember]
    metrics: Metrics

    @property
    def processes(self) -> dict[str, Member]:
        """The members whose memory and sockets are looked at."""
        return {name: member for name, member in self.members.items() if isinstance(member, Member)}

    def url(self, name: str) -> str:
        """Where a service or the viewer answers."""
        return self.members[name].url

    def faults(self, name: str) -> RemoteFaults:
        """The faults of a service."""
        return RemoteFaults(name, self.url(name))


@asynccontextmanager
async def running_shop(folder: Path, *, servers: bool = False) -> AsyncIterator[Shop]:
    """Start the viewer, Redis if it is installed, and every service of pyproject.toml.

    They listen on free ports and have their data in `folder`.

    Args:
        folder: An empty one.
        servers: Whether the services are on a PostgreSQL and a NATS, and not on SQLite files and HTTP.
    """
    names = [service.name for service in read_services(ROOT / "pyproject.toml")]
    *ports, page, otlp, grpc, redis = free_ports(len(names) + 4)
    urls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(metrics.receiving())
        environment = development_environment(urls, f"http://127.0.0.1:{otlp}", folder, pretty=False) | {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": metrics.url,
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": f"{EXPORT_INTERVAL_S * 1000:.0f}",
        }
        clearspan = [sys.executable, "-m", "observability.cli"]
        listening = ["--port", str(page), "--otlp-port", str(otlp), "--grpc-port", str(grpc)]
        viewer = [*clearspan, "viewer", *listening, "--data-dir", str(folder)]
        members: dict[str, Member | ServerMember] = {
            "viewer": Member("viewer", viewer, environment, f"http://127.0.0.1:{page}", "/livez", folder / "viewer.log")
        }
        if program := redis_server():
            members["redis"] = _redis(program, redis, folder / "redis")
            environment["REDIS_URL"] = members["redis"].url
        if servers:
            backends = await stack.enter_async_context(postgresql_and_nats(folder))
            members |= backends
            environment |= {"DATABASE_URL": backends["postgresql"].url, "BROKER_URL": backends["nats"].url}
        for name, port in zip(names, ports, strict=True):
            members[name] = Member(
                name,
                [*clearspan, "serve", name, "--port", str(port)],
                environment | {"OTEL_SERVICE_NAME": name, "CLEARSPAN_FAULTS": str(name in _TAKE_FAULTS).lower()},
                urls[name],
                "/readyz",
                folder / f"{name}.log",
            )
        for member in members.values():
            if isinstance(member, Member):
                stack.push_async_callback(member.stop)  # the viewer last, so that it gets what the others flush
                await member.start()
        for member in members.values():
            await member.ready()
        yield Shop(members, metrics)


def redis_server() -> str | None:
    """The program of a Redis or Valkey server, if one is installed."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def _redis(program: str, port: int, folder: Path) -> Member:
    """A Redis that keeps nothing on disk: killed, it comes back empty."""
    folder.mkdir()
    options = {"--bind": "127.0.0.1", "--port": str(port), "--dir": str(folder), "--save": "", "--appendonly": "no"}
    command = [program, *(word for option in options.items() for word in option)]
    return _Redis("redis", command, dict(os.environ), f"redis://127.0.0.1:{port}/0", "", folder / "redis.log")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
