"""Entries in Redis or Valkey, shared by every process that names the same server."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from opentelemetry.instrumentation.redis import RedisInstrumentor
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from observability.cache.store import Entry, Found
from observability.providers import Telemetry

TIMEOUT_S: Final = 0.1
"""How long a connection, and how long an answer may take, in seconds; redis-py's own are seconds, with retries."""

MAX_CONNECTIONS: Final = 16
"""How many commands run at once; the next ones wait, as long as an answer may take."""

# A key is one hash of a version and an entry, so that deleting it ends both at once. Its life is told by the server's
# clock, and so is an entry's age: the clocks of the processes need not agree. Redis runs a script as one step; EVAL and
# not EVALSHA, since the text is short and a restarted server does not know its hash.
_READ = """\
local found = redis.pcall('HMGET', KEYS[1], 'version', 'entry')
if found.err then
  redis.call('DEL', KEYS[1])
  found = {}
end
if not found[1] then
  redis.call('HSET', KEYS[1], 'version', ARGV[1])
end
if not found[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {found[1] or ARGV[1], found[2] or '', redis.call('PTTL', KEYS[1])}
"""
_PUT = """\
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'entry', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class BusyError(Exception):
    """All connections were in use by this process for too long, which says nothing against Redis."""


class UnreadableEntryError(ValueError):
    """What came for a key is no entry of that key."""


class RedisStore:
    """`observability.cache.store.Store` in Redis; it raises whatever goes wrong, and `GuardedStore` stands before it.

    Args:
        url: `redis://`, `rediss://`, `valkey://` or `valkeys://`, with the number of a database if any.
        telemetry: Gives each command a client span.

    Raises:
        ValueError: The URL says what no connection understands.
    """

    def __init__(self, url: str, telemetry: Telemetry) -> None:
        # Valkey speaks Redis's protocol; the scheme is all that differs.
        scheme, _, rest = url.partition("://")
        self._pool = ConnectionPool.from_url(
            f"{scheme.replace('valkey', 'redis')}://{rest}",
            max_connections=MAX_CONNECTIONS,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # a cache's second attempt is the load
            protocol=2,  # connects without a handshake
            driver_info=None,
        )
        try:
            self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation
        except TypeError:
            raise ValueError("the URL of Redis has a parameter that is not known") from None
        # The pool refuses at once what it has no connection for; a place in this queue can be waited for.
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._commands: set[asyncio.Task[Any]] = set()
        self._unsent: dict[str, asyncio.Task[Any]] = {}
        self._redis = Redis(connection_pool=self._pool)
        RedisInstrumentor.instrument_client(self._redis, tracer_provider=telemetry.tracer_provider)

    async def read(self, key: str, *, hold_s: float) -> Found:
        """What is kept, or a version for what will be.

        Raises:
            UnreadableEntryError: Something else than an entry of this key came back.
            redis.RedisError: Redis cannot be reached, or refused.
        """
        # Who asks while a read of the same key is not sent yet shares it, and sees all that was so when he asked.
        reading = self._unsent.get(key)
        if reading is None:
            read = partial(self._redis.eval, _READ, 1, key, secrets.token_hex(8), _milliseconds(hold_s))
            reading = self._unsent[key] = self._begin(read, sending=partial(self._unsent.pop, key))
        answer = await asyncio.shield(reading)
        try:
            version, entry, left_ms = answer
            return _found(key, version.decode("ascii"), entry, left_ms / 1000)
        except (ValueError, TypeError, AttributeError) as error:
            # The connection may be out of step and give one caller's answer to another (CVE-2023-28858): none of them
            # is believed further.
            await self._pool.disconnect()
            raise UnreadableEntryError("Redis holds something else than an entry of this key") from error

    async def put(self, key: str, version: str, entry: Entry, *, life_s: float) -> bool:
        """Keep an entry, unless the key has another version by now.

        Raises:
            redis.RedisError: Redis cannot be reached, or refused.
        """
        header = json.dumps([key, entry.fresh_s, entry.load_s, life_s]).encode()
        kept = header + b"\n" + entry.value
        put = partial(self._redis.eval, _PUT, 1, key, version, kept, _milliseconds(life_s))
        return bool(await asyncio.shield(self._begin(put)))

    async def delete(self, *keys: str) -> None:
        """Forget keys.

        Raises:
            redis.RedisError: Redis cannot be reached, or refused.
        """
        await asyncio.shield(self._begin(partial(self._redis.delete, *keys)))

    async def aclose(self) -> None:
        """Let the commands that run end, within their time, and close the connections."""
        if self._commands:
            await asyncio.wait(self._commands, timeout=3 * TIMEOUT_S)
        await self._pool.disconnect()

    def _begin(
        self, command: Callable[[], Awaitable[Any]], *, sending: Callable[[], object] = lambda: None
    ) -> asyncio.Task[Any]:
        """Run a command as a task of its own, which a caller may leave behind but never cancels.

        A command that is cancelled leaves its connection out of step or, if the pool is just taking it back, lost
        (CVE-2023-28858, redis/redis-py#4121). Left alone it ends by its own time-outs.

        Args:
            command: Sends it.
            sending: Called right before that, or when it comes to nothing.
        """
        task = asyncio.get_running_loop().create_task(self._run(command, sending), name="cache-redis")
        self._commands.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _run(self, command: Callable[[], Awaitable[Any]], sending: Callable[[], object]) -> Any:  # noqa: ANN401 - what Redis says
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise BusyError("no free connection to Redis") from None
        finally:
            sending()
        try:
            return await command()
        finally:
            self._slots.release()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._commands.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may have waited for it, and that is no fault


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _found(key: str, version: str, kept: bytes, left_s: float) -> Found:
    if not kept:
        return Found(version, None, 0.0)
    header, _, value = kept.partition(b"\n")
    own_key, fresh_s, load_s, life_s = json.loads(header)
    if own_key != key or left_s < 0:
        raise ValueError("of another key, or without an end")
    return Found(version, Entry(value, float(fresh_s), float(load_s)), max(0.0, float(life_s) - left_s))
