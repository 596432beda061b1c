"""The relay: takes events from the outbox to their delivery, at least once and, for each subject, in their order.

It runs in the process of its service. Any number of replicas share the work: each claims what it then delivers, for a
time that is longer than a delivery may take, and outside of any transaction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby

from observability.events.delivery import Delivery, DeliveryError, Refused, Unavailable
from observability.events.outbox import Claimed, Outbox
from observability.events.telemetry import EventTelemetry
from observability.providers import Telemetry
from observability.tasks import end

LEASE_S = 20.0
"""How long a claim lasts, in seconds: after a crash so much later another relay takes over."""

SEND_TIMEOUT_S = 10.0
"""For one attempt. Nothing is sent so late in a claim that it could outlast it."""

POLL_S = 1.0
"""How often the outbox is looked at without being told, in seconds: retries that are due, and what was told in vain."""

MAX_ATTEMPTS = 15
"""An event that was refused so often is dead; with the waits in between after about half an hour."""

BACKOFF_S, MAX_BACKOFF_S = 0.5, 300.0
"""Wait after the first refusal, doubled with each further one, and its bound; half of it is left to chance."""

PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
"""The same where nobody takes events of a type: then one event asks, while all others of the type wait."""

STOP_TIMEOUT_S = 2.0
"""How long deliveries under way may take to end when the relay stops, in seconds."""

_LEAST_WAIT_S = 0.01

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of events of one lane: delivered, refused, or given back if neither."""

    events: Sequence[Claimed]
    delivered: bool = False
    refused: bool = False
    reason: str | None = None
    again_in_s: float | None = None


@dataclass(slots=True)
class _Pause:
    """Events of one type wait until a time of the loop; then one of them, known by its number, asks."""

    until: float
    length_s: float
    asking: int | None = None


class Relay:
    """Delivers the events of one outbox.

    Args:
        outbox: Where they are.
        delivery: Takes them to their consumers.
        telemetry: Has a span for each attempt and for each wait before one.
    """

    def __init__(self, outbox: Outbox, delivery: Delivery, telemetry: Telemetry) -> None:
        self._outbox = outbox
        self._delivery = delivery
        self._telemetry = EventTelemetry(telemetry)
        self._name = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._news = asyncio.Event()
        self._in_flight = 0
        self._outcomes: list[_Outcome] = []
        self._pauses: dict[str, _Pause] = {}
        self._stopping = False

    def wake(self) -> None:
        """Have the outbox looked at now."""
        self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver events for as long as the block lasts; at its end deliveries under way may end, within bounds."""
        self._outbox.on_added(self.wake)
        task = asyncio.create_task(self._run(), name=f"relay of {self._outbox.service_name}")
        try:
            yield
        finally:
            self._stopping = True
            self.wake()
            try:
                await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
            finally:
                await end(task)

    async def _run(self) -> None:
        failures = 0
        try:
            async with asyncio.TaskGroup() as lanes:
                while not self._stopping or self._in_flight:
                    self._news.clear()
                    try:
                        await self._settle()
                        more = not self._stopping and await self._claim(lanes)
                        failures = 0
                    except Exception as error:  # noqa: BLE001 - whatever a database raises: it comes back, and so do we
                        failures += 1
                        if failures == 1:
                            logger.warning("the outbox cannot be reached: %s", type(error).__name__)
                        await asyncio.sleep(_jittered(PAUSE_S, failures, MAX_PAUSE_S))
                        continue
                    if not more and not self._outcomes:
                        await self._wait()
        finally:
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._settle()
            except Exception as error:  # noqa: BLE001 - the same; but now there is no next time
                logger.warning(
                    "the outbox could not be told the last outcomes (%s): their events are delivered again",
                    type(error).__name__,
                )

    async def _wait(self) -> None:
        """Wait for news: events, the end of a delivery, the end of a pause, or the time to look anyway."""
        now = asyncio.get_running_loop().time()
        ends = [pause.until - now for pause in self._pauses.values() if pause.asking is None]
        if self._stopping or not self._room():
            ends = []  # nobody could ask then
        try:
            async with asyncio.timeout(max(_LEAST_WAIT_S, min([POLL_S, *ends]))):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _claim(self, lanes: asyncio.TaskGroup) -> bool:
        """Claim events and begin to deliver them; whether there may be more to claim at once."""
        now = asyncio.get_running_loop().time()
        for type_, pause in list(self._pauses.items()):
            if pause.asking is None and pause.until <= now and self._room():
                asking = await self._take(lanes, 1, only=type_)
                if asking:
                    pause.asking = asking[0].seq
                else:
                    self._pauses.pop(type_, None)  # one that was under way may have ended it
        room = self._room()
        return room > 0 and len(await self._take(lanes, room, without=self._pauses)) == room

    def _room(self) -> int:
        """How many more events may be under way; 0 until it is worth a claim, so as not to claim them one by one."""
        most = self._delivery.max_in_flight
        room = most - self._in_flight
        return room if room >= max(1, most // 2) else 0

    async def _take(
        self, lanes: asyncio.TaskGroup, limit: int, *, only: str | None = None, without: Collection[str] = ()
    ) -> list[Claimed]:
        """Claim events, and have each subject's delivered beside those of the others."""
        deadline = asyncio.get_running_loop().time() + LEASE_S - SEND_TIMEOUT_S
        claimed = await self._outbox.claim(self._name, limit, lease_s=LEASE_S, only=only, without=without)
        self._in_flight += len(claimed)
        by_subject = sorted(claimed, key=lambda one: (one.event.subject, one.seq))
        for _, lane in groupby(by_subject, key=lambda one: one.event.subject):
            lanes.create_task(self._deliver(list(lane), deadline))
        return claimed

    async def _deliver(self, lane: list[Claimed], deadline: float) -> None:
        """Deliver events of one subject, one after the other; what follows one that is not delivered is given back."""
        loop = asyncio.get_running_loop()
        left = list(lane)
        try:
            while left and loop.time() < deadline and not self._stopping and not self._paused(left[0]):
                outcome = await self._send(left[0])
                self._outcomes.append(outcome)
                left.pop(0)
                if not outcome.delivered:
                    break
        finally:
            if left:
                self._outcomes.append(_Outcome(left))
            for one in left:
                if (pause := self._pauses.get(one.event.type)) is not None and pause.asking == one.seq:
                    pause.asking = None  # it has not, so another one has to
            self._in_flight -= len(lane)
            self.wake()

    async def _send(self, claimed: Claimed) -> _Outcome:
        event = claimed.event
        self._telemetry.waited(event, claimed.waits_since)
        try:
            with self._telemetry.sending(event, self._delivery.system, claimed.attempts + 1):
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await self._delivery.send(event)
                except TimeoutError:
                    raise Unavailable(f"not delivered within {SEND_TIMEOUT_S:g} s") from None
                except DeliveryError:
                    raise
                except Exception as error:
                    logger.exception("delivering an event failed")
                    raise Refused(type(error).__name__) from error
        except Unavailable as error:
            self._pause(claimed, str(error))
            return _Outcome([claimed], reason=str(error))
        except Refused as error:
            self._resume(event.type)
            attempts = claimed.attempts + 1
            about = {"event_id": event.id, "event_type": event.type, "attempts": attempts, "reason": str(error)}
            if error.final or attempts >= MAX_ATTEMPTS:
                logger.error("event is dead", extra=about)  # noqa: TRY400 - the reason says it all
                return _Outcome([claimed], refused=True, reason=str(error))
            logger.warning("event was refused", extra=about)
            wait_s = _jittered(BACKOFF_S, attempts, MAX_BACKOFF_S)
            return _Outcome([claimed], refused=True, reason=str(error), again_in_s=wait_s)
        self._resume(event.type)
        return _Outcome([claimed], delivered=True)

    async def _settle(self) -> None:
        """Tell the outbox what became of events; what it cannot be told now is told the next time."""
        outcomes, self._outcomes = self._outcomes, []
        try:
            delivered = [one.seq for outcome in outcomes if outcome.delivered for one in outcome.events]
            if delivered:
                await self._outbox.sent(self._name, delivered)
                outcomes = [outcome for outcome in outcomes if not outcome.delivered]
            while outcomes:
                outcome = outcomes[0]
                if outcome.refused:
                    await self._outbox.refused(
                        self._name, outcome.events[0], outcome.reason or "", again_in_s=outcome.again_in_s
                    )
                else:
                    await self._outbox.release(self._name, [one.seq for one in outcome.events], outcome.reason)
                outcomes.pop(0)
        finally:
            self._outcomes[:0] = outcomes

    def _paused(self, claimed: Claimed) -> bool:
        pause = self._pauses.get(claimed.event.type)
        return pause is not None and pause.asking != claimed.seq

    def _pause(self, claimed: Claimed, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        type_ = claimed.event.type
        pause = self._pauses.get(type_)
        if pause is None:
            logger.warning("events of type %s wait: %s", type_, reason)
            pause = self._pauses[type_] = _Pause(now, PAUSE_S / 2)
        elif pause.asking != claimed.seq:  # others that were under way when it began
            return
        pause.length_s = min(2 * pause.length_s, MAX_PAUSE_S)
        pause.until = now + pause.length_s * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
        pause.asking = None

    def _resume(self, type_: str) -> None:
        if self._pauses.pop(type_, None) is not None:
            logger.info("events of type %s are taken again", type_)


def _jittered(first_s: float, attempt: int, most_s: float) -> float:
    return min(first_s * 2.0 ** min(attempt - 1, 60), most_s) * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
