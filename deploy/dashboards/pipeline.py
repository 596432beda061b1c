"""Pipeline: what became of telemetry between the services and the programs that keep it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.dashboards.panels import SERVICE, Query, lines, number, page, quantile, rate

_DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled"
_QUEUE = "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity"
_UP = 'up{job=~"collector.*|jaeger|prometheus"}'
_LOST_IN_SERVICES = 'telemetry:lost:increase5m{where="sdk"}'
_LOST_IN_SAMPLING = 'telemetry:lost:increase5m{where="sampling"}'
_LOST_IN_COLLECTOR = 'telemetry:lost:increase5m{where=~"collector|sampling"}'


def dashboard() -> Dashboard:
    """The dashboard, in the order of telemetry's way: SDK, collector, and who keeps it."""
    return page(
        "Pipeline",
        "clearspan-pipeline",
        "Whether telemetry arrives: what the SDKs made, queued, sent and dropped, what the collector received, "
        "refused, kept and passed on, and how Prometheus and Jaeger are. Only the row of the SDKs goes by service.",
        {
            "At a glance": [
                number(
                    "Lost in the services",
                    "Spans, log records and data points of the last five minutes that SDKs dropped or failed to send. "
                    "Anything but zero is a gap in what you see: the collector is away, or a queue is too small.",
                    "short",
                    f"sum({_LOST_IN_SERVICES}) or vector(0)",
                    bad=1,
                ),
                number(
                    "Refused by the collector",
                    "Spans, points and records of the last five minutes that it did not take. SDKs keep them for a "
                    "while and try again.",
                    "short",
                    "sum(telemetry:refused:increase5m) or vector(0)",
                    bad=1,
                ),
                number(
                    "Lost in the collector",
                    "What it could neither queue nor deliver in the last five minutes, and traces that it gave up "
                    "before it had decided on them. It is gone.",
                    "short",
                    f"sum({_LOST_IN_COLLECTOR}) or vector(0)",
                    bad=1,
                ),
                number(
                    "Fullest queue",
                    "Of the collector's, by what it may hold on the disk. It fills while Jaeger, Prometheus or Loki is "
                    "away, and refuses when it is full.",
                    "percentunit",
                    f"max({_QUEUE})",
                    warn=0.5,
                    bad=0.8,
                ),
                number(
                    "Programs that are down",
                    "Of the collector, Jaeger and Prometheus, by Prometheus' own look at them.",
                    "short",
                    f"count({_UP} == 0) or vector(0)",
                    bad=1,
                ),
                number(
                    "Services that tell",
                    "How many sent metrics in the last five minutes. Fewer than there are: see ServiceSilent in the "
                    "runbook.",
                    "short",
                    "count(count by (service_name) (clearspan_event_loop_tasks))",
                ),
            ],
            "SDKs in the services": [
                lines(
                    "Made",
                    "Spans that were started and log records that were made, by service.",
                    "ops",
                    Query(rate(f"otel_sdk_span_started_total{{{SERVICE}}}", "service_name"), "{{service_name}} spans"),
                    Query(
                        rate(f"otel_sdk_log_created_total{{{SERVICE}}}", "service_name"), "{{service_name}} log records"
                    ),
                ),
                lines(
                    "Sent",
                    "What the collector took, by service.",
                    "ops",
                    Query(
                        rate(f'otel_sdk_exporter_span_exported_total{{{SERVICE}, error_type=""}}', "service_name"),
                        "{{service_name}} spans",
                    ),
                    Query(
                        rate(f'otel_sdk_exporter_log_exported_total{{{SERVICE}, error_type=""}}', "service_name"),
                        "{{service_name}} log records",
                    ),
                    Query(
                        rate(
                            f'otel_sdk_exporter_metric_data_point_exported_total{{{SERVICE}, error_type=""}}',
                            "service_name",
                        ),
                        "{{service_name}} data points",
                    ),
                ),
                lines(
                    "Dropped or not sent, by reason",
                    "In five minutes. `queue_full`: more is made than can be sent, so sample less, or the collector was"
                    " away for longer than 16 MiB of a signal last, so let it wait on disk (`CLEARSPAN_SPOOL`). Other"
                    " reasons are the exporter's.",
                    "short",
                    Query(
                        "sum by (service_name, signal, error_type)"
                        f' (telemetry:lost:increase5m{{where="sdk", {SERVICE}}})',
                        "{{service_name}} {{signal}}: {{error_type}}",
                        colour="red",
                    ),
                ),
                lines(
                    "Queues of spans",
                    "How full they are. Full: what is made next is dropped.",
                    "percentunit",
                    Query(
                        f"max by (service_name) (otel_sdk_processor_span_queue_size{{{SERVICE}}}"
                        f" / otel_sdk_processor_span_queue_capacity{{{SERVICE}}})",
                        "{{service_name}}",
                    ),
                    most=1,
                ),
                lines(
                    "Queues of log records",
                    "How full they are. Full: what is made next is dropped.",
                    "percentunit",
                    Query(
                        f"max by (service_name) (otel_sdk_processor_log_queue_size{{{SERVICE}}}"
                        f" / otel_sdk_processor_log_queue_capacity{{{SERVICE}}})",
                        "{{service_name}}",
                    ),
                    most=1,
                ),
                lines(
                    "Time to send, 95 %",
                    "One request to the collector, by exporter. Slow: the collector is at its limit, or far away.",
                    "s",
                    Query(
                        quantile(
                            0.95, "otel_sdk_exporter_operation_duration_seconds", "service_name", "otel_component_type"
                        ),
                        "{{service_name}} {{otel_component_type}}",
                    ),
                ),
            ],
            "Collector: in": [
                lines(
                    "Received",
                    "By kind, each second.",
                    "ops",
                    *[
                        Query(
                            f'sum(rate(otelcol_receiver_accepted_{kind}{{job="collector"}}[$__rate_interval]))',
                            name,
                        )
                        for kind, name in _KINDS.items()
                    ],
                ),
                lines(
                    "Refused or failed",
                    "By kind, in five minutes. Refused: the memory limit or a full queue; senders try again. Failed: "
                    "the collector could not work on it.",
                    "short",
                    Query(
                        "sum by (signal, receiver) (telemetry:refused:increase5m)", "{{signal}} at {{receiver}}", "red"
                    ),
                ),
                lines(
                    "Memory",
                    "Resident memory, and the heap. `memory_limiter` refuses what comes when the heap is near its "
                    "limit.",
                    "bytes",
                    Query('otelcol_process_memory_rss{job="collector"}', "resident"),
                    Query('otelcol_process_runtime_heap_alloc_bytes{job="collector"}', "heap"),
                ),
            ],
            "Collector: sampling": [
                lines(
                    "Traces kept, by policy",
                    "A trace that several policies keep counts for each. Many for `errors`: see Services.",
                    "ops",
                    Query(
                        rate('otelcol_processor_tail_sampling_count_traces_sampled{decision="sampled"}', "policy"),
                        "{{policy}}",
                    ),
                ),
                lines(
                    "Share of traces kept",
                    "Of all traces. Metrics and dashboards count all of them all the same.",
                    "percentunit",
                    Query(
                        f'sum(rate({_DECIDED}{{decision="sampled"}}[$__rate_interval]))'
                        f" / sum(rate({_DECIDED}[$__rate_interval]))",
                        "kept",
                    ),
                    most=1,
                ),
                lines(
                    "Traces that wait for a decision",
                    "And those that were pushed out before it, or were too large: raise `num_traces` of the collector, "
                    "or find who makes traces without end.",
                    "short",
                    Query("sum(otelcol_processor_tail_sampling_sampling_traces_on_memory)", "wait"),
                    Query(
                        f"sum({_LOST_IN_SAMPLING})",
                        "pushed out or too large in five minutes",
                        colour="red",
                    ),
                ),
            ],
            "Collector: out": [
                lines(
                    "Sent, by exporter",
                    "Spans to Jaeger, points to Prometheus, log records to Loki, each second.",
                    "ops",
                    *[
                        Query(
                            rate(f'otelcol_exporter_sent_{kind}{{job="collector"}}', "exporter"),
                            f"{name} to {{{{exporter}}}}",
                        )
                        for kind, name in _KINDS.items()
                    ],
                ),
                lines(
                    "Failed, by exporter",
                    "What was neither queued nor delivered in five minutes. It is gone. Without an exporter: traces "
                    "that the sampling gave up.",
                    "short",
                    Query(f"sum by (exporter, signal) ({_LOST_IN_COLLECTOR})", "{{signal}} {{exporter}}", colour="red"),
                ),
                lines(
                    "Queues, by exporter",
                    "How full the queue on the disk is. It rises while whoever takes from it is away.",
                    "percentunit",
                    Query(f"max by (exporter, data_type) ({_QUEUE})", "{{exporter}} {{data_type}}"),
                    most=1,
                ),
            ],
            "Prometheus and Jaeger": [
                lines(
                    "Up",
                    "1 while Prometheus reaches the program. TargetDown pages.",
                    "short",
                    Query(_UP, "{{job}}"),
                    most=1,
                ),
                lines(
                    "Series in Prometheus",
                    "Those that it holds in memory. A steep rise: some label takes a new value for each request.",
                    "short",
                    Query("prometheus_tsdb_head_series", "series"),
                ),
                lines(
                    "Samples that Prometheus took and refused",
                    "Refused: too old, out of order beyond the window, or twice with different values.",
                    "ops",
                    Query("sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "taken"),
                    Query(
                        "sum(rate(prometheus_tsdb_out_of_bound_samples_total[$__rate_interval]))", "out of bound", "red"
                    ),
                    Query("sum(rate(prometheus_tsdb_too_old_samples_total[$__rate_interval]))", "too old", "red"),
                ),
                lines(
                    "Exemplars in Prometheus",
                    "Those that lead from a metric to a trace; the oldest go first when there is no room.",
                    "short",
                    Query("prometheus_tsdb_exemplar_exemplars_in_storage", "exemplars"),
                ),
                lines(
                    "Rules that failed",
                    "An alert whose rule fails does not fire. The reason stands in Grafana, Alerting, Alert rules.",
                    "ops",
                    Query(
                        rate("prometheus_rule_evaluation_failures_total", "rule_group"), "{{rule_group}}", colour="red"
                    ),
                ),
                lines(
                    "Spans that Jaeger took and refused",
                    "What the collector chose to keep. Less than the collector sends: Jaeger is at its limit.",
                    "ops",
                    Query('sum(rate(otelcol_receiver_accepted_spans{job="jaeger"}[$__rate_interval]))', "taken"),
                    Query(
                        'sum(rate(otelcol_receiver_refused_spans{job="jaeger"}[$__rate_interval]))',
                        "refused",
                        colour="red",
                    ),
                ),
            ],
        },
    )


_KINDS = {"spans": "spans", "metric_points": "data points", "log_records": "log records"}
