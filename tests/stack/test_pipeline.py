"""What the services tell comes out of the real collector, Jaeger, Prometheus and Loki, with the committed configs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from observability import tree
from observability.jaeger import spans_of
from tests.queries import logs_of_trace
from tests.stack.conftest import ObservedShop
from tests.stack.log_lines import lines
from tests.stack.otlp import Spans, send_log, send_spans
from tests.stack.stack import CONFIGS, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def _config(name: str) -> dict[str, Any]:
    """The committed config of a program, whose bounds these tests go by."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / name / "config.yaml").read_text())
    return config


_SAMPLING = _config("collector")["processors"]["tail_sampling"]
_POLICIES = {policy["name"]: policy for policy in _SAMPLING["policies"]}

DECISION_S = float(_SAMPLING["decision_wait"].removesuffix("s"))
"""How long the collector waits for the rest of a trace before it decides."""

SHARE = _POLICIES["share"]["probabilistic"]["sampling_percentage"] / 100
"""Of the rest that is kept."""

QUIET = _POLICIES["quiet"]["rate_limiting"]
"""What is kept while there is little to do."""

MAX_TRACES = _config("jaeger")["extensions"]["jaeger_storage"]["backends"]["memory"]["memory"]["max_traces"]
"""That Jaeger keeps, and so may be asked for."""

DELAY_S = 5.0
"""Longer than the services keep what they tell, and an order takes."""

METRICS_S = 33.0
"""Longer than two of the collector's flushes of span metrics (`metrics_flush_interval`), and than `DECISION_S`: a new
series is told as 0 first, so that its first increase counts."""

LOAD_S, KILL_S = 32.0, 22.0

_Seen = TypeVar("_Seen")


def _until(look: Callable[[], _Seen | None], seconds: float = 60) -> _Seen:
    """Look again and again until something is seen."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.3)
    return seen


def _get(url: str, **params: str | int) -> Any:
    answer = httpx.get(url, params=params, timeout=20, trust_env=False)
    if answer.status_code == 404:
        return {"data": []}
    return answer.raise_for_status().json()


def _query(stack: Stack, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _get(f"{stack.prometheus}/api/v1/query", query=expression)["data"]["result"]
    return found


def _trace(url: str, trace_id: str) -> dict[str, Any] | None:
    """A trace of Jaeger's API, of whichever server; None while it has none."""
    found = _get(f"{url}/api/traces/{trace_id}")["data"]
    return found[0] if found else None


def _names(trace: dict[str, Any]) -> set[str]:
    return {span["operationName"] for span in trace["spans"]}


def _kept(stack: Stack, service: str) -> set[str]:
    """The traces of a service that have reached Jaeger."""
    found = _get(f"{stack.jaeger}/api/traces", service=service, limit=MAX_TRACES, lookback="1h")["data"] or []
    return {trace["traceID"] for trace in found}


def _written(stack: Stack) -> list[dict[str, Any]]:
    """The log records that Logstash would read."""
    return [
        record
        for line in stack.logs.read_text().splitlines()
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def _body(record: dict[str, Any]) -> str:
    return str(record["body"]["stringValue"])


def _post_order(one: ObservedShop) -> str:
    """Place an order; its id."""
    answer = httpx.post(f"{one.shop.orders}/orders", json={"sku": "mug", "quantity": 1}, timeout=20, trust_env=False)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _order(one: ObservedShop) -> str:
    """Place an order and wait until it is settled; its trace."""
    order_id = _post_order(one)

    def settled() -> bool:
        state = _get(f"{one.shop.orders}/orders/{order_id}")["state"]
        return state in ("confirmed", "cancelled")

    _until(settled)

    def found() -> str | None:
        tags = json.dumps({"shop.order.id": order_id})
        traces = _get(f"{one.stack.viewer}/api/traces", service="orders", tags=tags)["data"]
        return traces[0]["traceID"] if traces else None

    return _until(found)


def test_order_is_one_trace(observed: ObservedShop) -> None:
    """An order is one trace in Jaeger, the same as in the viewer, from the request to its confirmation."""
    trace_id = _order(observed)
    shown = ("http.response.status_code", "db.operation.name", "messaging.operation.name")

    def drawn(url: str) -> str:
        found = _trace(url, trace_id)
        return tree.render(spans_of(found), attributes=shown) if found else ""

    def whole() -> bool:
        return "process shipment.created" in drawn(observed.stack.jaeger)

    _until(whole)
    time.sleep(5)
    assert drawn(observed.stack.jaeger) == drawn(observed.stack.viewer)
    found = _trace(observed.stack.jaeger, trace_id)
    assert found is not None
    assert drawn(observed.stack.jaeger).startswith(
        "trace 1\n  orders SERVER POST /orders http.response.status_code=201\n"
    )
    services = {process["serviceName"] for process in found["processes"].values()}
    assert services == {"orders", "inventory", "payments", "shipping"}


def test_logs_go_to_both(observed: ObservedShop) -> None:
    """The log lines of an order go to Loki, where Grafana looks for its trace's, and into Logstash's file."""
    trace_id = _order(observed)

    def in_loki() -> bool:
        found = {line.text: line.labels["service_name"] for line in lines(observed.stack.loki, logs_of_trace(trace_id))}
        return (found.get("shipment created"), found.get("order confirmed")) == ("shipping", "orders")

    def in_file() -> set[str]:
        return {_body(record) for record in _written(observed.stack) if record.get("traceId") == trace_id}

    _until(in_loki)
    _until(lambda: "order confirmed" in in_file())


def test_span_metrics_lead_to_traces(observed: ObservedShop) -> None:
    """Prometheus has the metrics of all spans, with exemplars whose traces Jaeger has; Jaeger's Monitor finds them."""
    stack = observed.stack
    _order(observed)
    calls = (
        'traces_span_metrics_calls_total{service_name="orders",span_name="POST /orders",span_kind="SPAN_KIND_SERVER"}'
    )
    _until(lambda: _query(stack, calls))
    buckets = "traces_span_metrics_duration_milliseconds_bucket"

    def exemplars() -> set[str]:
        now = time.time()
        found = _get(
            f"{stack.prometheus}/api/v1/query_exemplars", query=buckets, start=str(now - 600), end=str(now + 60)
        )
        return {one["labels"]["trace_id"] for series in found["data"] for one in series["exemplars"]}

    _until(lambda: any(_trace(stack.jaeger, trace_id) for trace_id in exemplars()))

    def monitored() -> bool:
        told = _get(f"{stack.jaeger}/api/metrics/calls", service="orders", step=5000, lookback=600_000, ratePer=60_000)
        return any(metric["metricPoints"] for metric in told["metrics"])

    _until(lambda: _order(observed) and monitored())


def test_http_metrics_have_exemplars(observed: ObservedShop) -> None:
    """The services' own histograms reach Prometheus with their route, their instance and exemplars."""
    stack = observed.stack
    trace_id = _order(observed)
    (series, *_) = _until(
        lambda: _query(stack, 'http_server_request_duration_seconds_count{service_name="orders",http_route="/orders"}')
    )
    labels = series["metric"]
    assert labels["http_response_status_code"] == "201"
    assert labels["job"].endswith("orders")
    assert labels["instance"] == labels["service_instance_id"]

    def has_exemplar() -> bool:
        now = time.time()
        found = _get(
            f"{stack.prometheus}/api/v1/query_exemplars",
            query='http_server_request_duration_seconds_bucket{service_name="orders"}',
            start=str(now - 600),
            end=str(now + 60),
        )
        return trace_id in {one["labels"]["trace_id"] for series in found["data"] for one in series["exemplars"]}

    _until(has_exemplar)


def test_service_graph(observed: ObservedShop) -> None:
    """Prometheus knows who calls whom."""
    _order(observed)

    def calls() -> bool:
        found = _query(observed.stack, "traces_service_graph_request_total")
        pairs = {(one["metric"]["client"], one["metric"]["server"]) for one in found}
        return {("orders", "inventory"), ("orders", "payments")} <= pairs

    _until(calls)


def test_secrets_stop_at_the_collector(observed: ObservedShop) -> None:
    """What a program without the kit tells of secrets goes no further than the collector."""
    stack = observed.stack
    card, bearer = "4111111111111111", "Bearer abcdef0123456789"
    trace = Spans("careless", error=True, attributes={"note": f"card {card}", "x-api-key": "hunter2", "auth": bearer})
    send_spans(stack.otlp, [trace])
    send_log(stack.otlp, "careless", f"paid with {card}, {bearer}", password="hunter2")
    kept = _until(lambda: _trace(stack.jaeger, trace.trace_id))
    (root,) = [span for span in kept["spans"] if not span["references"]]
    tags = {tag["key"]: tag["value"] for tag in root["tags"]}
    assert (tags["note"], tags["x-api-key"], tags["auth"]) == ("card ****", "****", "****")
    written = _until(lambda: [line for line in stack.logs.read_text().splitlines() if "careless" in line])[0]
    assert "paid with ****, ****" in written
    (line,) = _until(lambda: lines(stack.loki, '{service_name="careless"}'))
    assert (line.text, line.labels["password"]) == ("paid with ****, ****", "****")
    for secret in (card, "abcdef0123456789", "hunter2"):
        assert secret not in written
        assert secret not in str(line)
        assert secret not in json.dumps(kept)


def test_tail_sampling(observed: ObservedShop) -> None:
    """Of many traces every error, slow and troubled one is kept, and of the rest the share that the config names."""
    stack = observed.stack
    ordinary = [Spans("sampled") for _ in range(3000)]
    special = {
        "errors": [Spans("sampled", error=True) for _ in range(50)],
        "slow": [Spans("sampled", seconds=1.2) for _ in range(50)],
        "retried": [Spans("sampled", attributes={"http.request.resend_count": 1}) for _ in range(50)],
        "stale": [Spans("sampled", event="clearspan.cache.stale") for _ in range(50)],
        "breaker": [Spans("sampled", event="clearspan.breaker") for _ in range(50)],
        "event again": [Spans("sampled", attributes={"clearspan.event.attempt": 2}) for _ in range(50)],
    }
    start = time.monotonic()
    send_spans(stack.otlp, ordinary)
    for traces in special.values():
        send_spans(stack.otlp, traces)
    sending_s = time.monotonic() - start
    for name, traces in special.items():
        wanted = {one.trace_id for one in traces}
        _until(lambda wanted=wanted: wanted <= _kept(stack, "sampled"))  # type: ignore[misc]
        assert wanted, name
    time.sleep(DECISION_S / 2)
    kept = len({one.trace_id for one in ordinary} & _kept(stack, "sampled"))
    # Four standard deviations of so many coins; and what the quiet policy lets through meanwhile, at most.
    expected = SHARE * len(ordinary)
    spread = 4 * (expected * (1 - SHARE)) ** 0.5
    quiet = (QUIET["burst_capacity"] + QUIET["spans_per_second"] * (sending_s + DECISION_S)) / ordinary[0].count
    assert expected - spread <= kept <= expected + spread + quiet


def test_span_metrics_count_what_is_not_kept(observed: ObservedShop) -> None:
    """Each request counts in Prometheus, whether its trace is kept or not."""
    stack = observed.stack
    send_spans(stack.otlp, [Spans("counted") for _ in range(1000)])
    total = 'sum(traces_span_metrics_calls_total{service_name="counted",span_kind="SPAN_KIND_SERVER"})'
    _until(lambda: [one["value"][1] for one in _query(stack, total)] == ["1000"])


def test_killed_with_data_in_its_queue(mortal: ObservedShop) -> None:
    """A collector that is killed while its receivers are away sends them later all that it had taken.

    Loki, killed as well, has the lines that it had before.
    """
    stack = mortal.stack
    receivers = (stack.jaeger_server, stack.prometheus_server, stack.loki_server, stack.viewer_server)
    traces = [Spans("queued", error=True) for _ in range(300)]
    told = {f"log {number}" for number in range(50)}

    def logs() -> set[str]:
        return {line.text for line in lines(stack.loki, logs_of_trace(traces[0].trace_id))}

    send_log(stack.otlp, "queued", "before", traces[0].trace_id)
    _until(lambda: logs() == {"before"})
    for receiver in receivers:
        receiver.kill()
    send_spans(stack.otlp, traces)
    for body in told:
        send_log(stack.otlp, "queued", body, traces[0].trace_id)
    # Until the traces are decided and in the queue, and their metrics too.
    time.sleep(METRICS_S)
    stack.collector.kill()
    for receiver in receivers:
        receiver.start()
    stack.collector.start()
    wanted = {one.trace_id for one in traces}
    _until(lambda: wanted <= _kept(stack, "queued"))
    _until(lambda: logs() == told | {"before"})
    counted = 'max_over_time(traces_span_metrics_calls_total{service_name="queued",span_kind="SPAN_KIND_SERVER"}[5m])'
    _until(lambda: [one["value"][1] for one in _query(stack, counted)] == ["300"])


def test_killed_under_load(mortal: ObservedShop) -> None:
    """A collector that is killed while orders come loses no metric, no log, and only traces that it had not decided."""
    stack = mortal.stack
    placed: dict[str, float] = {}
    start = time.monotonic()
    killed = back = 0.0
    while (now := time.monotonic() - start) < LOAD_S:
        if not killed and now > KILL_S:
            killed = time.time()
            stack.collector.kill()
            stack.collector.start()
            back = time.time()
        answer = _post_order(mortal)
        placed[answer] = time.time()
        time.sleep(0.7)

    def confirmed() -> int:
        return sum(_get(f"{mortal.shop.orders}/orders/{order_id}")["state"] == "confirmed" for order_id in placed)

    _until(lambda: confirmed() == len(placed))

    def traced() -> set[str]:
        """The orders that Jaeger has from the request to the confirmation."""
        found = _get(f"{stack.jaeger}/api/traces", service="orders", limit=1000, lookback="1h")["data"] or []
        whole = [trace for trace in found if "process shipment.created" in _names(trace)]
        return {
            tag["value"]
            for trace in whole
            for span in trace["spans"]
            for tag in span["tags"]
            if tag["key"] == "shop.order.id"
        }

    safe = {one for one, at in placed.items() if at < killed - DECISION_S - DELAY_S or at > back}
    assert len(safe) > 10
    _until(lambda: safe <= traced())

    total = 'sum(shop_orders_total{shop_order_outcome="placed"})'
    _until(lambda: [one["value"][1] for one in _query(stack, total)] == [str(len(placed))])
    _until(lambda: len({log.get("traceId") for log in _written(stack) if _body(log) == "order placed"}) == len(placed))

    def in_loki() -> set[str]:
        return {line.labels["trace_id"] for line in lines(stack.loki, '{service_name="orders"} |= "order placed"')}

    _until(lambda: len(in_loki()) == len(placed))
