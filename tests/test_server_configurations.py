"""The configurations of the servers that Debian packages: the real ones take them, and hold to them."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]  # it has no annotations
import pytest
from nats.aio.client import Client
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from sqlalchemy import make_url

from deploy import passwords
from observability.cache.redis import RedisStore
from observability.cache.store import Entry
from observability.events.nats.streams import Streams
from observability.resilience.breaker import Breaker, BreakerOptions
from observability.resilience.shared import SharedBreakers
from observability.testing import Recorder
from tests.postgres import PostgresServer, postgres_server, programs

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
STACK = ROOT / "observability/stack"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the secrets, as `make secrets` makes it."""
    return passwords.make(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def postgresql(secrets: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL with the databases of compose.yaml, which asks everybody but its superuser for a password."""
    with postgres_server() as server:
        (server._folder / "data/pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        at = {"PGHOST": "127.0.0.1", "PGPORT": str(server._port), "POSTGRES_USER": "postgres"}
        path = f"{programs()}:/usr/bin:/bin"
        reload = ["psql", "-qU", "postgres", "-c", "SELECT pg_reload_conf()"]
        subprocess.run(reload, env=at | {"PATH": path}, check=True, stdout=subprocess.DEVNULL)
        script = (STACK / "postgresql/databases.sh").read_text().replace("/run/secrets", str(secrets))
        subprocess.run(["bash", "-c", script], env=at | {"PATH": path}, check=True)
        yield server


async def _connect(postgresql: PostgresServer, secret: Path, database: str | None = None) -> asyncpg.Connection:
    url = make_url(secret.read_text()).set(host="127.0.0.1", port=postgresql._port)  # noqa: ASYNC240 - a short file
    return await asyncpg.connect(url.set(database=database or url.database).render_as_string(hide_password=False))


@pytest.mark.parametrize("name", ["orders", "inventory", "payments", "shipping"])
async def test_database(postgresql: PostgresServer, secrets: Path, name: str) -> None:
    """A service has a database of its own, in which it may do anything."""
    connection = await _connect(postgresql, secrets / f"{name}-database-url")
    await connection.execute("CREATE SCHEMA own; CREATE TABLE own.things (id int); CREATE TABLE things (id int)")
    assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    await connection.close()


@pytest.mark.parametrize("database", ["payments", "postgres", "template1"])
async def test_database_of_others(postgresql: PostgresServer, secrets: Path, database: str) -> None:
    """A service cannot use another one's database."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _connect(postgresql, secrets / "orders-database-url", database)


async def test_database_password(postgresql: PostgresServer, secrets: Path, tmp_path: Path) -> None:
    """Without the password there is no way in."""
    wrong = tmp_path / "url"
    wrong.write_text((secrets / "orders-database-url").read_text().replace("@", "0@"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _connect(postgresql, wrong)


@pytest.mark.parametrize(("setting", "value"), [("listen_addresses", "*"), ("max_wal_size", "256")])
def test_postgresql_configuration(postgresql: PostgresServer, setting: str, value: str) -> None:
    """PostgreSQL takes its configuration."""
    data = postgresql._folder / "data"
    config = data / "postgresql-of-compose.conf"
    config.write_text((STACK / "postgresql/postgresql.conf").read_text())
    shutil.chown(config, data.owner())
    folder = programs()
    assert folder is not None
    told = subprocess.run(
        [folder / "postgres", "-D", data, "-c", f"config_file={config}", "-C", setting],
        capture_output=True,
        text=True,
        check=False,
        user=data.owner(),
        cwd=data,
    )
    assert (told.stdout.strip(), told.returncode) == (value, 0), told.stderr


@pytest.fixture(scope="module")
def valkey(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis with Valkey's configuration."""
    folder = tmp_path_factory.mktemp("valkey")
    text = (STACK / "valkey/valkey.conf").read_text().replace("/run/secrets", str(secrets))
    (folder / "valkey.conf").write_text(
        text.replace("dir /data", f"dir {folder}").replace("bind * -::*", "bind 127.0.0.1")
    )
    with _running(
        shutil.which("redis-server") or "valkey-server",
        lambda port: [folder / "valkey.conf", "--port", str(port)],
    ) as port:
        yield port


def _at(secret: Path, port: int) -> str:
    parts = urlsplit(secret.read_text())
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


async def test_cache(valkey: int, secrets: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inventory may do what its cache does."""
    monkeypatch.setattr("observability.cache.redis.TIMEOUT_S", 20.0)
    store = RedisStore(_at(secrets / "inventory-redis-url", valkey), recorder.telemetry("inventory"))
    version = (await store.read("clearspan:1:stock:mug", hold_s=10)).version
    assert await store.put("clearspan:1:stock:mug", version, Entry(b"value", 1, 0), life_s=60)
    assert (await store.read("clearspan:1:stock:mug", hold_s=10)).entry == Entry(b"value", 1, 0)
    await store.delete("clearspan:1:stock:mug")
    await store.aclose()


async def test_shared_breakers(valkey: int, secrets: Path) -> None:
    """Orders may do what its breakers do."""
    shared = SharedBreakers(_at(secrets / "orders-redis-url", valkey))
    shared.join("inventory", Breaker(BreakerOptions(), lambda *_: None))
    shared.opened("inventory", 5)
    await shared._exchange()
    await shared._redis.aclose()


async def test_cache_of_others(valkey: int, secrets: Path) -> None:
    """Nobody touches the keys of another service, nor the server itself."""
    async with Redis.from_url(_at(secrets / "orders-redis-url", valkey).replace("valkey:", "redis:")) as orders:
        for command in ("GET clearspan:1:stock:mug", "SET other value", "FLUSHALL", "CONFIG GET *", "ACL LIST"):
            with pytest.raises(NoPermissionError):
                await orders.execute_command(*command.split())  # type: ignore[no-untyped-call]  # so is it in redis-py


async def test_cache_stranger(valkey: int) -> None:
    """Who has no password may ask whether the cache is there, and no more."""
    async with Redis(port=valkey) as stranger:
        assert await stranger.ping()
        with pytest.raises((NoPermissionError, ResponseError)):
            await stranger.get("clearspan:1:stock:mug")
    async with Redis(port=valkey, username="orders", password="wrong", retry=Retry(NoBackoff(), 0)) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()


@pytest.fixture(scope="module")
def broker(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a NATS with its configuration; Debian's does not know one of the settings yet."""
    folder = tmp_path_factory.mktemp("nats")
    shutil.copy(secrets / "nats-users", folder / "users.conf")

    def arguments(port: int) -> list[str | Path]:
        text = (STACK / "nats/nats.conf").read_text().replace("  sync_interval: always\n", "")
        text = text.replace("0.0.0.0:4222", f"127.0.0.1:{port}").replace("http: 127.0.0.1:8222\n", "")
        (folder / "nats.conf").write_text(text.replace("/var/lib/nats", str(folder / "data")))
        return ["--config", folder / "nats.conf"]

    with _running("nats-server", arguments) as port:
        yield port


@pytest.mark.parametrize("name", ["orders", "shipping"])
async def test_broker(broker: int, secrets: Path, name: str) -> None:
    """A service makes the streams, sends events and takes them."""
    async with _connected(broker, secrets, name) as (client, refused):
        jetstream = client.jetstream()
        await Streams().make(jetstream)
        await jetstream.publish("events.order.placed", b"event")
        subscription = await jetstream.pull_subscribe("events.order.placed", durable=name, stream="EVENTS")
        (message, *_) = await subscription.fetch(1, timeout=10)
        await message.ack_sync()
        await jetstream.publish(f"events_dead.{name}.order.placed", b"event")
    assert refused.empty()


@pytest.mark.parametrize("name", ["orders", "shipping"])
async def test_other_subjects(broker: int, secrets: Path, name: str) -> None:
    """A service neither sends nor hears anything else."""
    async with _connected(broker, secrets, name) as (client, refused):
        await client.publish("other", b"")
        await client.subscribe("events.>")
        async with asyncio.timeout(10):
            for _ in range(2):
                assert "permissions violation" in str(await refused.get())


@pytest.mark.parametrize("user", [{}, {"user": "orders", "pass": "wrong"}])
def test_broker_password(broker: int, user: dict[str, str]) -> None:
    """Without a password there is no way in."""
    with socket.create_connection(("127.0.0.1", broker), timeout=10) as connection, connection.makefile("rb") as told:
        assert told.readline().startswith(b"INFO")
        connection.sendall(f"CONNECT {json.dumps(user)}\r\nPING\r\n".encode())
        assert told.readline() == b"-ERR 'Authorization Violation'\r\n"


@asynccontextmanager
async def _connected(broker: int, secrets: Path, name: str) -> AsyncIterator[tuple[Client, asyncio.Queue[Exception]]]:
    """A service's connection to NATS, and what the server has refused it."""
    refused = asyncio.Queue[Exception]()
    client = Client()
    await client.connect(_at(secrets / f"{name}-broker-url", broker), error_cb=refused.put)
    yield client, refused
    await client.close()


@contextmanager
def _running(program: str, arguments: Callable[[int], list[str | Path]]) -> Iterator[int]:
    """A program of the test's own that listens on a free port of the loopback, which it is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    process = subprocess.Popen([program, *arguments(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
