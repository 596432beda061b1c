"""A process's one connection to NATS: made in the background, and again whenever it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext

from observability.events.delivery import Unavailable
from observability.tasks import end

CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 5.0
"""How long JetStream may take to answer, in seconds."""

RETRY_S: Final = 0.5
"""Between two attempts to connect, in seconds."""

GIVE_UP_S: Final = 30.0
"""How long nats-py may try to connect again before it is replaced by a new client, in seconds."""

PENDING_BYTES: Final = 4 * 1024 * 1024
"""How much waits to be written; more waits until it is, or is refused while there is no connection."""

PING_S: Final = 10
"""How often the server is asked whether it is there, in seconds; the third without an answer ends the connection."""

CLOSE_TIMEOUT_S: Final = 2.0
_LOOK_S: Final = 1.0

logger = logging.getLogger(__name__)


class NatsConnection:
    """Enter it for the life of the application: it connects in the background, so that a service starts without NATS.

    Args:
        url: `nats://` or `tls://`, with user and password if any; several, separated by commas, for a cluster.
        name: The service's, for whoever looks at the server.

    Raises:
        ValueError: The URL is none of NATS.
    """

    def __init__(self, url: str, name: str) -> None:
        self._servers = url.split(",")
        if not all(server.startswith(("nats://", "tls://")) for server in self._servers):
            raise ValueError("the URL of NATS has to begin with nats:// or tls://")
        self._name = name
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._told: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complained = False
        self.number = 0
        """Of this connection: how many there have been."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=f"nats connection of {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end(self._task)

    @property
    def client(self) -> Client:
        """The client, while it is connected.

        Raises:
            Unavailable: It is not.
        """
        if self._client is None or not self._client.is_connected:
            raise Unavailable("NATS cannot be reached")
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        """The client's JetStream.

        Raises:
            Unavailable: There is no connection.
        """
        client = self.client
        if self._jetstream is None:
            self._jetstream = client.jetstream(timeout=REQUEST_TIMEOUT_S)
        return self._jetstream

    async def tell(self, subject: str, body: bytes) -> None:
        """Publish something that may as well be lost, as it is without a connection."""
        with suppress(Unavailable, Error, OSError):
            await self.client.publish(subject, body)

    def on_change(self, told: Callable[[], None]) -> None:
        """Have a function called whenever a connection is made or lost."""
        self._told.append(told)

    async def connected(self, timeout_s: float) -> None:
        """Wait for the first connection.

        Raises:
            Unavailable: It was not made in time.
        """
        made = asyncio.Event()
        self.on_change(made.set)
        try:
            async with asyncio.timeout(timeout_s):
                while self._client is None or not self._client.is_connected:
                    await made.wait()
                    made.clear()
        except TimeoutError:
            raise Unavailable("NATS cannot be reached") from None
        finally:
            self._told.remove(made.set)

    async def _keep(self) -> None:
        while True:
            client = Client()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await client.connect(
                        self._servers,
                        name=self._name,
                        error_cb=self._on_error,
                        disconnected_cb=self._on_lost,
                        reconnected_cb=self._on_connected,
                        closed_cb=self._on_closed,
                        connect_timeout=int(CONNECT_TIMEOUT_S),
                        reconnect_time_wait=RETRY_S,  # type: ignore[arg-type]  # it only sleeps so long
                        max_reconnect_attempts=-1,
                        ping_interval=PING_S,
                        pending_size=PENDING_BYTES,
                        flush_timeout=REQUEST_TIMEOUT_S,
                    )
                self._client = client
                await self._on_connected()
                await self._until_lost(client)
            except Exception as error:  # noqa: BLE001 - nats-py raises all kinds of errors, and the next client may do
                await self._on_error(error)
            finally:
                self._client = self._jetstream = None
                self._tell()
                await _close(client)
            await asyncio.sleep(RETRY_S)

    async def _until_lost(self, client: Client) -> None:
        """Return when a client has closed, as it does where the server refuses what it says, or has got stuck."""
        now = asyncio.get_running_loop().time
        connected_at = now()
        while not client.is_closed and now() < connected_at + GIVE_UP_S:
            self._changed.clear()
            try:
                # Looked at now and then: a client that fails while it closes tells nobody.
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            if client.is_connected:
                connected_at = now()

    async def _on_connected(self) -> None:
        self.number += 1
        self._complained = False
        logger.info("connected to NATS")
        self._tell()

    async def _on_lost(self) -> None:
        if self._client is not None:  # not closed by us
            logger.warning("the connection to NATS is lost")
        self._complained = True
        self._tell()

    async def _on_closed(self) -> None:
        self._tell()

    async def _on_error(self, error: Exception) -> None:
        if not self._complained:  # once until it works again
            self._complained = True
            logger.warning("NATS: %s", type(error).__name__)
        self._changed.set()

    def _tell(self) -> None:
        self._changed.set()
        for told in self._told:
            told()


async def _close(client: Client) -> None:
    """Write what waits to be written, and close; a server that reads no more does not hold it up."""
    closing = asyncio.create_task(client.close(), name="nats close")
    _, late = await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    for one in late:
        one.cancel()
    await asyncio.gather(closing, return_exceptions=True)
