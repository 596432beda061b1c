"""Every name of telemetry that the kit itself emits, declared once; the rest is named by the semantic conventions."""

from __future__ import annotations

from typing import Final, NamedTuple


class Instrument(NamedTuple):
    """A metric's declaration: name, UCUM unit and description, in the order that the meter API takes them."""

    name: str
    unit: str
    description: str


SCRUBBED: Final = "clearspan.scrubbed"
"""Attribute of spans and log records: the paths of what was cut out before export, never the values."""

CLIENT_DISCONNECTED: Final = "clearspan.client.disconnected"
"""Attribute of server spans: true when the client hung up before it had the whole response."""

FAULT: Final = "clearspan.fault"
"""Attribute of server spans: the kind of fault that the request met on demand."""

RUNNING: Final = "clearspan.span.running"
"""Event of `observability.unfinished`: a span runs. Time, ids and attributes are the span's."""

RUNNING_NAME: Final = "clearspan.span.name"

RUNNING_KIND: Final = "clearspan.span.kind"
"""`internal`, `server`, `client`, `producer` or `consumer`."""

RUNNING_PARENT: Final = "clearspan.span.parent_id"
"""In hexadecimal; a root has none."""

SPOOLED: Final = Instrument(
    "clearspan.exporter.spooled", "{item}", "Spans or log records that wait on disk for a receiver that is away."
)

EVENT_LOOP_LAG: Final = Instrument(
    "clearspan.event_loop.lag",
    "s",
    "How much later than asked the event loop woke a sleeping task.",
)

EVENT_LOOP_TASKS: Final = Instrument(
    "clearspan.event_loop.tasks", "{task}", "Tasks of the event loop that have not ended."
)

PEER: Final = "clearspan.peer"
"""Attribute of client spans and of the resilient client's metrics: the dependency's name."""

RETRY_REASON: Final = "clearspan.retry.reason"
"""Why an attempt is repeated: the status it was answered with, or the name of the error."""

RETRY_DELAY: Final = "clearspan.retry.delay_s"

ATTEMPT: Final = "clearspan.attempt"
"""Attribute of the chain's span events: which attempt of the call it is about."""

RETRYING: Final = "clearspan.retry"
"""Event on the caller's span: a failed attempt is repeated."""

NOT_RETRYING: Final = "clearspan.no_retry"
"""Event on the caller's span: a failed attempt is not repeated."""

NO_RETRY_BECAUSE: Final = "clearspan.no_retry.because"

HEDGING: Final = "clearspan.hedge"
"""Event on the caller's span: a second attempt begins beside a slow one."""

BREAKER_CHANGED: Final = "clearspan.breaker"
"""Event on the caller's span: it changed the state of a breaker."""

BREAKER_REASON: Final = "clearspan.breaker.reason"

BREAKER_STATE: Final = "clearspan.breaker.state"
"""`closed`, `open` or `half_open`; on a span of an attempt if it is not closed."""

ATTEMPTS: Final = Instrument(
    "clearspan.client.attempts",
    "{attempt}",
    "Attempts that left the process, by dependency and `error.type`. `http.client.request.duration` of contrib has only"
    " those that were answered.",
)

RETRIES: Final = Instrument(
    "clearspan.client.retries", "{retry}", "Attempts that followed a failed one, by dependency and reason."
)

HEDGE_WON: Final = "clearspan.hedge.won"
"""Whether the second attempt answered first."""

HEDGES: Final = Instrument(
    "clearspan.client.hedges", "{attempt}", "Second attempts beside a slow one, by dependency and whether they won."
)

REFUSALS: Final = Instrument(
    "clearspan.client.refusals", "{attempt}", "Attempts that never left the process, by dependency and `error.type`."
)

BREAKER_CHANGES: Final = Instrument(
    "clearspan.breaker.changes", "{change}", "Changes of a breaker's state, by dependency and new state."
)

BREAKER_STATES: Final = Instrument(
    "clearspan.breaker.states",
    "{breaker}",
    "By dependency, 1 for the state that its breaker is in and 0 for others.",
)

BULKHEAD_CALLS: Final = Instrument("clearspan.bulkhead.calls", "{call}", "Calls to a dependency that are under way.")

BULKHEAD_WAITED: Final = "clearspan.bulkhead.wait"
"""Event on the caller's span: it waited for a place."""

WAIT: Final = "clearspan.wait_s"

BULKHEAD_WAIT: Final = Instrument(
    "clearspan.bulkhead.wait", "s", "How long calls waited for a place, of those that had to wait."
)

CACHE_REQUESTS: Final = Instrument(
    "clearspan.cache.requests",
    "{request}",
    "Values that were asked of a cache, by what came of it.",
)

CACHE_LOAD_DURATION: Final = Instrument(
    "clearspan.cache.load.duration",
    "s",
    "How long a cache's loads took, whether somebody waited for them or not.",
)

CACHE_STORE_ERRORS: Final = Instrument(
    "clearspan.cache.store.errors",
    "{error}",
    "Failures of the store under a cache, each of which counts as nothing found.",
)

CACHE_EVICTIONS: Final = Instrument(
    "clearspan.cache.evictions",
    "{entry}",
    "Entries that memory dropped before their time to make room.",
)

CACHE_NAME: Final = "clearspan.cache.name"
"""Attribute of the cache's metrics and spans: which cache of the service it is."""

CACHE_RESULT: Final = "clearspan.cache.result"
"""Attribute of `clearspan.cache.requests`: `hit`, `miss` (loaded), `wait` (for another's load), `stale` or `error`."""

CACHE_STALE: Final = "clearspan.cache.stale"
"""Event on the caller's span: a value past its time was given since the load failed, with `error.type` and its age."""

CACHE_AGE: Final = "clearspan.cache.age"
"""Attribute of `clearspan.cache.stale`: seconds since the value was loaded."""

OUTBOX_PENDING: Final = Instrument("clearspan.outbox.pending", "{event}", "Events that wait to be delivered.")

OUTBOX_OLDEST: Final = Instrument(
    "clearspan.outbox.oldest.age",
    "s",
    "How long the oldest event has waited to be delivered, or 0. This, and not their number, shows a dead relay.",
)

OUTBOX_DEAD: Final = Instrument(
    "clearspan.outbox.dead", "{event}", "Events that are not tried any more until somebody says so."
)

EVENT_ATTEMPT: Final = "clearspan.event.attempt"
"""Attribute of spans that send an event again: which attempt it is, from 2 on."""

INBOX_EVENTS: Final = Instrument("clearspan.inbox.events", "{event}", "Events that were delivered here, by outcome.")

INBOX_OUTCOME: Final = "clearspan.inbox.outcome"
"""`applied`, or `duplicate`: it was applied before; the latter also on the span that processes it."""

DEAD_LETTERS: Final = Instrument(
    "clearspan.event.dead_letters", "{event}", "Events that a consumer has given up and a broker keeps for people."
)
