"""Bounds on a connection, below the application: how large a request's head may be, and how long it may take.

The head stands here for whatever of a message is no body: chunks' headers and trailers too.

uvicorn bounds neither with its faster parser (httptools), and the application sees a request only when its head has
come whole. So a header that never ends would fill the memory, and one that trickles in would hold its connection for
good.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import weakref
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 512 * 1024
"""More than what one read of a socket brings (256 KiB), since the read in which a head begins is counted whole.

What is below it and still too much is answered by `observability.limits`.
"""

HEAD_TIMEOUT_S = 10.0

LINGER_S = 1.0
"""How long what a refused client still sends is thrown away, so that it can read why: closing at once, with bytes
unread, would reset the connection and take the answer with it.
"""

_RESOLUTION_S = 0.001  # so early a timer may come: uvloop counts milliseconds
_CONNECTION = "clearspan.connection"  # an extension of the ASGI scope
_LINGER_NOT = struct.pack("ii", 1, 0)  # SO_LINGER: what is unsent is lost, and the other side is told so by a reset


class Cut(Protocol):
    """Ends a request's connection, whatever became of the answer."""

    def __call__(self, *, reset: bool) -> None:
        """Tear it down at once, or close it when what was sent has left."""
        ...


def cut_of(scope: Scope) -> Cut | None:
    """What ends the connection of a request; None under a server that is not the kit's."""
    found = _found(scope)
    return None if found is None else partial(found[0].cut, found[1])


def client_has_gone(scope: Scope) -> bool | None:
    """Whether the client of a request, whose answer is not complete, has gone; None if the server does not tell."""
    found = _found(scope)
    if found is None:
        return None
    gone: bool = found[1].disconnected
    return gone


def _found(scope: Scope) -> tuple[BoundedConnection, RequestResponseCycle] | None:
    extension = scope.get("extensions", {}).get(_CONNECTION)
    if extension is None:
        return None
    cycle = extension["cycle"]()
    return None if cycle is None else (extension["protocol"], cycle)


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol that answers 431 to a head without end and 408 to one that does not arrive.

    What is no HTTP at all is answered with a problem too, in place of uvicorn's plain text.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own, passed on
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._in_head = False
        self._in_message = False
        self._got_body = False
        self._refused = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._served: RequestResponseCycle | None = None
        self._context = copy_context()  # the server's, which no request has touched

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, and tell the request that is being served; uvicorn tells the one that came last."""
        self._stop_waiting()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse; wait for the rest of a head that did not come whole, and refuse one that has grown too large."""
        if self._refused:
            return
        self._got_body = False
        super().data_received(data)
        if self._in_head:
            self._wait_for_head()
        if self._got_body:
            self._head_bytes = 0
        elif self._in_message:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.logger.warning("A request's head was too large.")
                self._refuse(431, f"At most {MAX_HEAD_BYTES} bytes are read as the head of a request.")

    def on_message_begin(self) -> None:
        """Start to count; the connection is idle no longer."""
        super().on_message_begin()
        self._idle_since = None
        self._head_bytes, self._in_head, self._in_message = 0, True, True

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # not so for an upgrade
            # Weakly, since the cycle has the scope: else each request would be garbage that only a collection finds.
            self.scope["extensions"] = {_CONNECTION: {"protocol": self, "cycle": weakref.ref(self.cycle)}}

    def on_body(self, body: bytes) -> None:
        """Note that the message goes on."""
        self._got_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count no longer."""
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that nobody read, or of a pipelined request's head, whose time begins now."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:  # what uvicorn does then, but for its timer
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._begin_idling()
        if self._in_head:
            self._stop_waiting()
        if self._in_message:
            self._wait_for_head()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - as uvicorn calls it
        # uvicorn starts a pipelined request in the context of the one before it, and so in its trace. So does asyncio
        # with each one that comes after a body for which reading was paused.
        self._served = cycle
        self._context.copy().run(super()._start_asgi_task, cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; `msg` is uvicorn's, which has logged it."""
        self._refuse(400, msg)

    def leave(self) -> None:
        """Let the answer to what has come so far be the last one, and say so, if it has not begun."""
        if self._answering() and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def cut(self, cycle: RequestResponseCycle, *, reset: bool) -> None:
        """End the connection of a request; see `Cut`."""
        cycle.disconnected = True  # so that uvicorn misses no answer
        if not reset:
            self.transport.close()
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        self._refused = True
        self._stop_waiting()
        if not self._answering():
            self._answer(status, detail)
        elif self.cycle.more_body:
            self.transport.close()  # the handler may wait for a body that cannot come any more
        else:
            self.cycle.keep_alive = False  # no second answer into the middle of this one: the last on its connection

    def _answer(self, status: int, detail: str) -> None:
        phrase = HTTPStatus(status).phrase
        body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail}).encode()
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _answering(self) -> bool:
        # None until the first request, whatever uvicorn's annotation says.
        return self.cycle is not None and not self.cycle.response_complete

    def _begin_idling(self) -> None:
        """Close the connection if nothing comes for `timeout_keep_alive`.

        uvicorn sets a timer after each answer and cancels it when anything comes, be it an empty line, which begins no
        request. Here one goes on meanwhile, and looks when it is over whether there was a request.
        """
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > _RESOLUTION_S:
            self._idle_timer = self.loop.call_later(left_s, self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._answering():
            self._wait_for_head()  # the head of a pipelined request, which is read on when its turn has come
        elif self._in_head:
            self.logger.warning("A request's head was too late.")
            self._refuse(408, f"The head of a request has to arrive within {HEAD_TIMEOUT_S:g} s.")
        else:
            self.transport.close()
