"""Events: what waits in outboxes, what is on its way, what was applied, what is dead."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.dashboards.panels import SERVICE, Query, lines, log_lines, number, page, quantile, rate, share

_SENT = f"messaging_client_sent_messages_total{{{SERVICE}}}"
_SENT_IN_VAIN = f'messaging_client_sent_messages_total{{{SERVICE}, error_type!=""}}'
_CONSUMED = f"messaging_client_consumed_messages_total{{{SERVICE}}}"
_CONSUMED_IN_VAIN = f'messaging_client_consumed_messages_total{{{SERVICE}, error_type!=""}}'
_INBOX = f"clearspan_inbox_events_total{{{SERVICE}}}"
_DEAD_LETTERS = f"clearspan_event_dead_letters_total{{{SERVICE}}}"
_SPANS = "traces_span_metrics_duration_milliseconds"


def _gauge(name: str) -> str:
    """An outbox is shared by the replicas, and each of them measures all of it."""
    return f"max by (service_name) ({name}{{{SERVICE}}})"


def dashboard() -> Dashboard:
    """The dashboard, in the order of an event's way."""
    return page(
        "Events",
        "clearspan-events",
        "The way of events: from the outbox of who tells them, to who consumes them. `clearspan events` shows the "
        "single events that wait or are dead, and repairs them.",
        {
            "At a glance": [
                number(
                    "Pending",
                    "Events that wait to be delivered. Their number alone is no trouble; their age is.",
                    "short",
                    f"sum({_gauge('clearspan_outbox_pending')})",
                ),
                number(
                    "Oldest",
                    "How long the oldest event has waited. OutboxStuck pages from a minute on: the relay is dead, or "
                    "who should take the events is away.",
                    "s",
                    f"max({_gauge('clearspan_outbox_oldest_age_seconds')})",
                    warn=10,
                    bad=60,
                ),
                number(
                    "Dead",
                    "Events in outboxes that are not tried any more, and hold up what comes after them for the same "
                    "subject. `clearspan events` says why.",
                    "short",
                    f"sum({_gauge('clearspan_outbox_dead')})",
                    bad=1,
                ),
                number(
                    "Dead letters",
                    "Events that consumers gave up in the time shown, and that the broker keeps for people.",
                    "short",
                    # `increase` does not see the first one of a process, with which its series begins.
                    f"sum(({_DEAD_LETTERS} unless {_DEAD_LETTERS} offset $__range)"
                    f" or increase({_DEAD_LETTERS}[$__range])) or vector(0)",
                    bad=1,
                ),
                number(
                    "Sent",
                    "Attempts a second to deliver an event.",
                    "ops",
                    f"sum(rate({_SENT}[$__rate_interval]))",
                ),
                number(
                    "Sent in vain",
                    "Share of the attempts that failed. They are repeated, with twice the wait each time.",
                    "percentunit",
                    share(_SENT_IN_VAIN, _SENT),
                    warn=0.01,
                    bad=0.2,
                ),
            ],
            "What waits": [
                lines(
                    "Pending",
                    "By the service whose outbox it is. A hill that goes down again was a consumer away for a while.",
                    "short",
                    Query(_gauge("clearspan_outbox_pending"), "{{service_name}}"),
                ),
                lines(
                    "Age of the oldest",
                    "A line that rises by one second a second: nothing is delivered at all.",
                    "s",
                    Query(_gauge("clearspan_outbox_oldest_age_seconds"), "{{service_name}}"),
                ),
                lines(
                    "Dead",
                    "Until somebody retries or discards them: `clearspan events retry`, `clearspan events discard`.",
                    "short",
                    Query(_gauge("clearspan_outbox_dead"), "{{service_name}} outbox", colour="red"),
                    Query(
                        f"sum by (service_name) ({_DEAD_LETTERS})",
                        "{{service_name}} dead letters",
                        colour="orange",
                    ),
                ),
            ],
            "On the way": [
                lines(
                    "Sent",
                    "Attempts to deliver, by kind of event.",
                    "ops",
                    Query(
                        rate(_SENT, "service_name", "messaging_destination_name"),
                        "{{service_name}}: {{messaging_destination_name}}",
                    ),
                ),
                lines(
                    "Sent in vain, by reason",
                    "The name of the error. `Unavailable`: nobody takes events of this kind at the moment, and no "
                    "attempt is counted against them.",
                    "ops",
                    Query(
                        rate(_SENT_IN_VAIN, "service_name", "messaging_destination_name", "error_type"),
                        "{{service_name}}: {{messaging_destination_name}} {{error_type}}",
                        colour="red",
                    ),
                ),
                lines(
                    "Time to deliver, 95 %",
                    "One attempt, until the broker or the consumer has taken the event.",
                    "s",
                    Query(
                        quantile(
                            0.95,
                            "messaging_client_operation_duration_seconds",
                            "service_name",
                            "messaging_destination_name",
                        ),
                        "{{service_name}}: {{messaging_destination_name}}",
                        exemplars=True,
                    ),
                ),
                lines(
                    "Wait before an attempt",
                    "From when an event was told, or its last attempt failed, to this attempt: what the outbox adds to "
                    "the delay. Of all spans, sampled or not.",
                    "ms",
                    Query(
                        quantile(0.5, _SPANS, "service_name", "span_name", matchers=f'{SERVICE}, span_name=~"wait .+"'),
                        "{{service_name}}: {{span_name}} 50 %",
                        colour="green",
                    ),
                    Query(
                        quantile(
                            0.99, _SPANS, "service_name", "span_name", matchers=f'{SERVICE}, span_name=~"wait .+"'
                        ),
                        "{{service_name}}: {{span_name}} 99 %",
                        colour="orange",
                        exemplars=True,
                    ),
                    width=24,
                ),
            ],
            "At the consumers": [
                lines(
                    "Consumed",
                    "Deliveries, by consumer and kind of event.",
                    "ops",
                    Query(
                        rate(_CONSUMED, "service_name", "messaging_destination_name"),
                        "{{service_name}}: {{messaging_destination_name}}",
                    ),
                ),
                lines(
                    "Consumed in vain, by reason",
                    "The handler raised; the event is delivered again. The same reason again and again makes it die.",
                    "ops",
                    Query(
                        rate(_CONSUMED_IN_VAIN, "service_name", "messaging_destination_name", "error_type"),
                        "{{service_name}}: {{messaging_destination_name}} {{error_type}}",
                        colour="red",
                    ),
                ),
                lines(
                    "Time to process, 95 %",
                    "The handler and its transaction. The points lead to traces.",
                    "s",
                    Query(
                        quantile(
                            0.95, "messaging_process_duration_seconds", "service_name", "messaging_destination_name"
                        ),
                        "{{service_name}}: {{messaging_destination_name}}",
                        exemplars=True,
                    ),
                ),
                lines(
                    "Applied, and duplicates",
                    "`duplicate`: it had been applied before and changed nothing. Some after a crash are as designed; "
                    "many mean that acknowledgements get lost.",
                    "ops",
                    Query(
                        rate(_INBOX, "service_name", "clearspan_inbox_outcome"),
                        "{{service_name}}: {{clearspan_inbox_outcome}}",
                    ),
                    width=12,
                ),
                lines(
                    "Given up by consumers",
                    "Dead letters a second. DeadLetters pages at the first one.",
                    "ops",
                    Query(
                        rate(_DEAD_LETTERS, "service_name", "messaging_destination_name"),
                        "{{service_name}}: {{messaging_destination_name}}",
                        colour="red",
                    ),
                    width=12,
                ),
            ],
            "Logs": [
                log_lines(
                    "Events that failed or died",
                    "What relays and consumers complain of, the newest first.",
                    f'{{{SERVICE}}} | scope_name=~"observability[.]events[.].+"'
                    ' | severity_text=~"WARN|ERROR|CRITICAL|FATAL"',
                )
            ],
        },
    )
