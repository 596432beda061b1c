"""Services: how requests fare (rate, errors, duration), by service and route, and what the processes are short of."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.dashboards.panels import SERVICE, Query, lines, log_lines, number, page, quantile, rate, rows_of, share

_REQUESTS = "http_server_request_duration_seconds"
_ALL = f"{_REQUESTS}_count{{{SERVICE}}}"
_FAILED = f'{_REQUESTS}_count{{{SERVICE}, error_type!=""}}'
_REFUSED = f'{_REQUESTS}_count{{{SERVICE}, http_response_status_code=~"4.."}}'
_SPANS = "traces_span_metrics_duration_milliseconds"
_OUTGOING = f'{SERVICE}, span_kind=~"SPAN_KIND_CLIENT|SPAN_KIND_PRODUCER|SPAN_KIND_CONSUMER"'


def _of_route(of_all: float) -> str:
    """A quantile, for a table: nothing rather than NaN for a route that nobody asks for."""
    return f"{quantile(of_all, _REQUESTS, *_ROUTE)} >= 0"


def dashboard() -> Dashboard:
    """The dashboard, from what customers see down to what causes it."""
    return page(
        "Services",
        "clearspan-services",
        "How requests fare, by service and route, and what the processes are short of. Read it from the top: what "
        "customers see comes first, its causes below.",
        {
            "At a glance": [
                number(
                    "Requests",
                    "Requests a second that the chosen services answer. None at all: nobody asks, or nobody tells; "
                    "Pipeline shows which.",
                    "reqps",
                    f"sum(rate({_ALL}[$__rate_interval]))",
                ),
                number(
                    "Failed",
                    "Share of requests that failed by the service's fault: statuses of 5xx, and connections that broke "
                    "off. Look below which route fails, then at its traces.",
                    "percentunit",
                    share(_FAILED, _ALL),
                    warn=0.001,
                    bad=0.01,
                ),
                number(
                    "95 % answered within",
                    "Of all requests of the chosen services. If it rises and the load does not, look at the routes, "
                    "and at Calls for a slow dependency.",
                    "s",
                    f"histogram_quantile(0.95, sum by (le) (rate({_REQUESTS}_bucket{{{SERVICE}}}[$__rate_interval])))",
                    warn=0.5,
                    bad=1,
                ),
                number(
                    "Under way",
                    "Requests that have begun and are not answered yet. At its limit a service answers 503 at once.",
                    "short",
                    f"sum(http_server_active_requests{{{SERVICE}}})",
                ),
                number(
                    "Worst event-loop lag",
                    "How late the slowest of the chosen services wakes a task (99 %). More than 100 ms: something "
                    "blocks its event loop.",
                    "s",
                    f"max({quantile(0.99, 'clearspan_event_loop_lag_seconds', 'service_name')})",
                    warn=0.1,
                    bad=0.5,
                ),
                number(
                    "Fastest burn of an error budget",
                    "How many times faster than allowed the last hour used up an objective's budget. At 14.4 a month's "
                    "budget is gone in two days, and SloBurnsFast pages.",
                    "suffix:x",
                    f"max(slo:bad:ratio_rate1h{{{SERVICE}}} / on (service_name, slo) (1 - slo:objective))",
                    warn=1,
                    bad=14.4,
                ),
            ],
            "Requests": [
                lines(
                    "Rate",
                    "Requests a second. A drop to nothing while customers are there: look at readiness (`/readyz`) and "
                    "at Pipeline.",
                    "reqps",
                    Query(rate(_ALL, "service_name"), "{{service_name}}"),
                ),
                lines(
                    "Share that failed",
                    "Failed by the service's fault (5xx, or no answer). Statuses of 4xx are the caller's and stand "
                    "below.",
                    "percentunit",
                    Query(share(_FAILED, _ALL, "service_name"), "{{service_name}}", colour="red"),
                ),
                lines(
                    "Duration",
                    "Within which half, 95 % and 99 % were answered. The points are single requests: a click on one "
                    "opens its trace.",
                    "s",
                    Query(quantile(0.5, _REQUESTS, "service_name"), "{{service_name}} 50 %", colour="green"),
                    Query(quantile(0.95, _REQUESTS, "service_name"), "{{service_name}} 95 %", colour="blue"),
                    Query(
                        quantile(0.99, _REQUESTS, "service_name"),
                        "{{service_name}} 99 %",
                        colour="orange",
                        exemplars=True,
                    ),
                ),
            ],
            "Routes": [
                rows_of(
                    "Every route",
                    "The last minutes of each route. Sort by what hurts; a row leads to the traces of its service.",
                    ["service_name", "http_request_method", "http_route"],
                    {
                        "Rate": ("reqps", rate(_ALL, *_ROUTE)),
                        "Failed": ("percentunit", share(_FAILED, _ALL, *_ROUTE)),
                        "50 %": ("s", _of_route(0.5)),
                        "95 %": ("s", _of_route(0.95)),
                        "99 %": ("s", _of_route(0.99)),
                    },
                ),
                lines(
                    "Failed, by status",
                    "503 is overload or a dependency that is away, 504 a deadline, 502 a dependency's error, 500 a "
                    "defect of the service. Their log lines stand at the bottom.",
                    "reqps",
                    Query(
                        rate(_FAILED, *_ROUTE, "http_response_status_code"),
                        "{{service_name}} {{http_request_method}} {{http_route}} {{http_response_status_code}}",
                        colour="red",
                    ),
                ),
                lines(
                    "Refused, by status",
                    "Statuses of 4xx: what callers asked wrongly, or the business refused. A sudden rise after a "
                    "release is often a broken caller.",
                    "reqps",
                    Query(
                        rate(_REFUSED, *_ROUTE, "http_response_status_code"),
                        "{{service_name}} {{http_request_method}} {{http_route}} {{http_response_status_code}}",
                        colour="orange",
                    ),
                ),
                lines(
                    "95 % by route",
                    "Which route is slow. The points are single requests: a click on one opens its trace, which shows "
                    "where its time went.",
                    "s",
                    Query(
                        quantile(0.95, _REQUESTS, *_ROUTE),
                        "{{service_name}} {{http_request_method}} {{http_route}}",
                        exemplars=True,
                    ),
                ),
            ],
            "What requests wait for": [
                lines(
                    "Statements, calls and events, 95 %",
                    "Of all spans that go out of a service or come in as events, sampled or not. The slowest one here "
                    "is the first suspect of a slow route.",
                    "ms",
                    Query(
                        quantile(0.95, _SPANS, "service_name", "span_name", matchers=_OUTGOING),
                        "{{service_name}} {{span_name}}",
                        exemplars=True,
                    ),
                    width=12,
                ),
                lines(
                    "Statements, calls and events that failed",
                    "Spans with an error. What a dependency refuses by its contract is none.",
                    "ops",
                    Query(
                        rate(
                            f'traces_span_metrics_calls_total{{{_OUTGOING}, status_code="STATUS_CODE_ERROR"}}',
                            "service_name",
                            "span_name",
                        ),
                        "{{service_name}} {{span_name}}",
                        colour="red",
                    ),
                    width=12,
                ),
            ],
            "Saturation": [
                lines(
                    "Requests under way",
                    "Those that are not answered yet, of each process. Flat at the top: it is at its limit of requests "
                    "and refuses with 503.",
                    "short",
                    Query(
                        f"sum by (service_name, service_instance_id) (http_server_active_requests{{{SERVICE}}})",
                        "{{service_name}}",
                    ),
                ),
                lines(
                    "Event-loop lag, 99 %",
                    "How late the event loop wakes a sleeping task. If it rises, code computes or blocks on the loop: "
                    "a slow library, a large body, a full CPU.",
                    "s",
                    Query(
                        quantile(0.99, "clearspan_event_loop_lag_seconds", "service_name"),
                        "{{service_name}}",
                        exemplars=True,
                    ),
                ),
                lines(
                    "Tasks of the event loop",
                    "Tasks that have not ended. If it only ever rises, something is started and never awaited.",
                    "short",
                    Query(f"max by (service_name) (clearspan_event_loop_tasks{{{SERVICE}}})", "{{service_name}}"),
                ),
                lines(
                    "CPU",
                    "Cores in use, of all processes of a service. One process cannot use more than one: at 1 for each "
                    "replica, add replicas.",
                    "none",
                    Query(rate(f"process_cpu_time_seconds_total{{{SERVICE}}}", "service_name"), "{{service_name}}"),
                ),
                lines(
                    "Memory",
                    "Resident memory of the largest process. Rising for hours at the same load is a leak.",
                    "bytes",
                    Query(f"max by (service_name) (process_memory_usage_bytes{{{SERVICE}}})", "{{service_name}}"),
                ),
                lines(
                    "Database connections in use",
                    "Those of each pool that a statement has now. At the pool's size requests wait for one: a slow "
                    "statement, or too much to do.",
                    "short",
                    Query(
                        f'sum by (service_name) (db_client_connections_usage{{{SERVICE}, state="used"}})',
                        "{{service_name}}",
                    ),
                ),
                lines(
                    "Threads and open files",
                    "Of the process that has most. If files only ever rise, connections are not closed.",
                    "short",
                    Query(f"max by (service_name) (process_thread_count{{{SERVICE}}})", "{{service_name}} threads"),
                    Query(
                        f"max by (service_name) (process_open_file_descriptor_count{{{SERVICE}}})",
                        "{{service_name}} files",
                    ),
                ),
                lines(
                    "Garbage collections",
                    "Of the oldest generation, which stops the process longest. Compare with the event-loop lag.",
                    "ops",
                    Query(
                        rate(f'cpython_gc_collections_total{{{SERVICE}, cpython_gc_generation="2"}}', "service_name"),
                        "{{service_name}}",
                    ),
                ),
                lines(
                    "Involuntary context switches",
                    "How often the process was taken off its CPU. High together with lag: the machine is too full.",
                    "ops",
                    Query(
                        rate(f'process_context_switches_total{{{SERVICE}, type="involuntary"}}', "service_name"),
                        "{{service_name}}",
                    ),
                ),
            ],
            "Logs": [
                log_lines(
                    "Warnings and errors",
                    "Of the chosen services, the newest first. A line's trace id leads to its trace.",
                    f'{{{SERVICE}}} | severity_text=~"WARN|ERROR|CRITICAL|FATAL"',
                )
            ],
        },
    )


_ROUTE = ("service_name", "http_request_method", "http_route")
