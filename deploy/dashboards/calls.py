"""Calls: what a service asks of others, and what its retries, breakers, hedges, bulkheads and caches make of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.dashboards.panels import SERVICE, Query, lines, log_lines, number, page, quantile, rate, share, states

_ATTEMPTS = f"clearspan_client_attempts_total{{{SERVICE}}}"
_FAILED = f'clearspan_client_attempts_total{{{SERVICE}, error_type!=""}}'
_RETRIES = f"clearspan_client_retries_total{{{SERVICE}}}"
_REFUSALS = f"clearspan_client_refusals_total{{{SERVICE}}}"
_CACHE = f"clearspan_cache_requests_total{{{SERVICE}}}"
_STALE = f'clearspan_cache_requests_total{{{SERVICE}, clearspan_cache_result="stale"}}'
_PAIR = ("service_name", "clearspan_peer")


def _breaker(state: str) -> str:
    return f'clearspan_breaker_states{{{SERVICE}, clearspan_breaker_state="{state}"}}'


def dashboard() -> Dashboard:
    """The dashboard, from whether calls succeed down to what stood in for them."""
    return page(
        "Calls",
        "clearspan-calls",
        "What services ask of each other, by caller and dependency (`clearspan.peer`), and what the chain of retries, "
        "breaker, hedges, bulkhead and cache makes of it.",
        {
            "At a glance": [
                number(
                    "Attempts",
                    "Attempts a second that left the chosen services, repeated ones too.",
                    "ops",
                    f"sum(rate({_ATTEMPTS}[$__rate_interval]))",
                ),
                number(
                    "Failed attempts",
                    "Share of attempts that failed, business answers such as 404 among them. What customers see of it "
                    "is on Services.",
                    "percentunit",
                    share(_FAILED, _ATTEMPTS),
                    warn=0.05,
                    bad=0.2,
                ),
                number(
                    "Retries",
                    "Attempts a second that followed a failed one. Their budget is a fifth of all calls; at that, "
                    "failures go through to the caller.",
                    "ops",
                    f"sum(rate({_RETRIES}[$__rate_interval])) or vector(0)",
                    warn=0.1,
                ),
                number(
                    "Refused",
                    "Attempts a second that were never sent: breaker open, bulkhead full, no time left.",
                    "ops",
                    f"sum(rate({_REFUSALS}[$__rate_interval])) or vector(0)",
                    warn=0.1,
                    bad=1,
                ),
                number(
                    "Breakers not closed",
                    "Dependencies that some process does not ask at the moment, or only tries. BreakerOpenLong pages "
                    "after five minutes.",
                    "short",
                    f"count(min by (service_name, clearspan_peer) ({_breaker('closed')}) < 1) or vector(0)",
                    bad=1,
                ),
                number(
                    "Stale answers",
                    "Values a second that were given out of date since loading failed. Customers notice little; the "
                    "dependency is broken all the same.",
                    "ops",
                    f"sum(rate({_STALE}[$__rate_interval])) or vector(0)",
                    warn=0.01,
                ),
            ],
            "Attempts": [
                lines(
                    "Attempts",
                    "By caller and dependency. Rising faster than requests: something is repeated.",
                    "ops",
                    Query(rate(_ATTEMPTS, *_PAIR), "{{service_name}} to {{clearspan_peer}}"),
                ),
                lines(
                    "Failed attempts, by reason",
                    "A status, or the name of the error: `ConnectError` (nobody listens), `AttemptTimedOut` (too "
                    "slow), `ReadError` (broke off). Look at the dependency's own row on Services.",
                    "ops",
                    Query(
                        rate(_FAILED, *_PAIR, "error_type"),
                        "{{service_name}} to {{clearspan_peer}}: {{error_type}}",
                        colour="red",
                    ),
                ),
                lines(
                    "Duration of answered attempts",
                    "As the caller measures it, network included. Compare with the dependency's own duration on "
                    "Services: what is between them is the way, or its queue.",
                    "s",
                    Query(
                        quantile(
                            0.5, "http_client_request_duration_seconds", "service_name", "server_address", "server_port"
                        ),
                        "{{service_name}} to {{server_address}}:{{server_port}} 50 %",
                        colour="green",
                    ),
                    Query(
                        quantile(
                            0.95,
                            "http_client_request_duration_seconds",
                            "service_name",
                            "server_address",
                            "server_port",
                        ),
                        "{{service_name}} to {{server_address}}:{{server_port}} 95 %",
                        colour="blue",
                        exemplars=True,
                    ),
                ),
            ],
            "Breakers": [
                states(
                    "State",
                    "The worst of a service's processes. Open: the dependency is not asked, and calls fail at once. "
                    "It is tried again by itself; `clearspan fault` shows whether somebody breaks it on purpose.",
                    "max by (service_name, clearspan_peer) "
                    f"((2 * {_breaker('open')}) or (1 * {_breaker('half_open')}) or (0 * {_breaker('closed')}))",
                    "{{service_name}} to {{clearspan_peer}}",
                    {0: ("closed", "green"), 1: ("half open", "orange"), 2: ("open", "red")},
                ),
                lines(
                    "Changes of state",
                    "To which state. Many changes: the dependency recovers and fails again under the load that comes "
                    "back.",
                    "ops",
                    Query(
                        rate(f"clearspan_breaker_changes_total{{{SERVICE}}}", *_PAIR, "clearspan_breaker_state"),
                        "{{service_name}} to {{clearspan_peer}}: {{clearspan_breaker_state}}",
                    ),
                    width=12,
                ),
                lines(
                    "Refused attempts, by reason",
                    "`BreakerOpen`: see the state above. `BulkheadFull`: too many calls at once, see below. "
                    "`DeadlineSpent`: no time was left for the call.",
                    "ops",
                    Query(
                        rate(_REFUSALS, *_PAIR, "error_type"),
                        "{{service_name}} to {{clearspan_peer}}: {{error_type}}",
                        colour="red",
                    ),
                    width=12,
                ),
            ],
            "Retries and hedges": [
                lines(
                    "Retries, by reason",
                    "Each repeats a failed attempt. They hide a failing dependency from customers; it is to be "
                    "repaired all the same.",
                    "ops",
                    Query(
                        rate(_RETRIES, *_PAIR, "clearspan_retry_reason"),
                        "{{service_name}} to {{clearspan_peer}}: {{clearspan_retry_reason}}",
                        colour="orange",
                    ),
                ),
                lines(
                    "Retries per attempt",
                    "How much of the load on a dependency is repetition. Bounded by the budget of a fifth of the "
                    "calls.",
                    "percentunit",
                    Query(
                        f"{rate(_RETRIES, *_PAIR)} / {rate(_ATTEMPTS, *_PAIR)}",
                        "{{service_name}} to {{clearspan_peer}}",
                        colour="orange",
                    ),
                ),
                lines(
                    "Hedges",
                    "Second attempts beside a slow one, and whether they answered first. If few win, they only add "
                    "load.",
                    "ops",
                    Query(
                        rate(f"clearspan_client_hedges_total{{{SERVICE}}}", *_PAIR, "clearspan_hedge_won"),
                        "{{service_name}} to {{clearspan_peer}}: won {{clearspan_hedge_won}}",
                    ),
                ),
            ],
            "Bulkheads": [
                lines(
                    "Calls under way",
                    "By caller and dependency. Flat at the top: the bulkhead is full, and calls wait or are refused.",
                    "short",
                    Query(
                        f"sum by (service_name, clearspan_peer) (clearspan_bulkhead_calls{{{SERVICE}}})",
                        "{{service_name}} to {{clearspan_peer}}",
                    ),
                    width=12,
                ),
                lines(
                    "Wait for a place, 95 %",
                    "Of the calls that had to wait. Any wait means that the dependency is slower than its bulkhead was "
                    "sized for.",
                    "s",
                    Query(
                        quantile(0.95, "clearspan_bulkhead_wait_seconds", *_PAIR),
                        "{{service_name}} to {{clearspan_peer}}",
                        colour="orange",
                    ),
                    width=12,
                ),
            ],
            "Caches": [
                lines(
                    "Answers, by kind",
                    "`hit`, `miss` (loaded), `wait` (for another's load), `stale` (out of date, since loading failed), "
                    "`error`.",
                    "ops",
                    Query(
                        rate(_CACHE, "service_name", "clearspan_cache_name", "clearspan_cache_result"),
                        "{{service_name}} {{clearspan_cache_name}}: {{clearspan_cache_result}}",
                    ),
                ),
                lines(
                    "Loads, 95 %",
                    "How long what is behind the cache takes. Slow loads with few hits: the time to live is too short.",
                    "s",
                    Query(
                        quantile(0.95, "clearspan_cache_load_duration_seconds", "service_name", "clearspan_cache_name"),
                        "{{service_name}} {{clearspan_cache_name}}",
                        exemplars=True,
                    ),
                ),
                lines(
                    "Errors of the store, and evictions",
                    "By service, whose caches share a store. Errors: Redis is away, and memory stands in. Evictions: "
                    "memory is too small for what is asked.",
                    "ops",
                    Query(
                        rate(f"clearspan_cache_store_errors_total{{{SERVICE}}}", "service_name", "error_type"),
                        "{{service_name}}: {{error_type}}",
                        colour="red",
                    ),
                    Query(
                        rate(f"clearspan_cache_evictions_total{{{SERVICE}}}", "service_name"),
                        "{{service_name}}: evictions",
                        colour="orange",
                    ),
                ),
            ],
            "Who calls whom": [
                lines(
                    "Calls between services",
                    "As the collector counts them from the spans of both sides, sampled or not.",
                    "reqps",
                    Query(
                        rate('traces_service_graph_request_total{client=~"$service"}', "client", "server"),
                        "{{client}} to {{server}}",
                    ),
                    width=12,
                ),
                lines(
                    "Calls between services that failed",
                    "An error on either side.",
                    "reqps",
                    Query(
                        rate('traces_service_graph_request_failed_total{client=~"$service"}', "client", "server"),
                        "{{client}} to {{server}}",
                        colour="red",
                    ),
                    width=12,
                ),
            ],
            "Logs": [
                log_lines(
                    "Breakers",
                    "Each change of a breaker with its reason.",
                    f'{{{SERVICE}}} |= "breaker of"',
                )
            ],
        },
    )
