"""What the pages ask, over HTTP."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from observability.viewer.ingest import ingest_logs, ingest_metrics, ingest_traces
from observability.viewer.store import Store
from tests.observability.viewer.samples import (
    PROTOBUF,
    START_NS,
    add,
    called,
    gauge_request,
    log_request,
    nested,
    notice,
    record,
    span,
    span_id,
    text,
    trace_id,
)

pytestmark = pytest.mark.anyio

TRACE = trace_id(1).hex()
TIME = f"start={START_NS // 1000}&end={START_NS // 1000 + 60_000_000}"


async def _json(pages: httpx.AsyncClient, path: str) -> Any:
    response = await pages.get(path)
    assert response.status_code == 200
    return response.json()


async def test_find(store: Store, pages: httpx.AsyncClient) -> None:
    """The newest traces that a query asks for, within a time, and whether all was looked at."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    answer = await _json(pages, "/api/find?q=operation%3Dchild&limit=5")
    assert ([trace["name"] for trace in answer["traces"]], answer["complete"]) == (["root"], True)
    assert (answer["searchedTo"], answer["otlp"]) == (None, "http://127.0.0.1:4318")
    assert (await _json(pages, "/api/find?q=service%3Dpayments"))["traces"] == []
    assert len((await _json(pages, f"/api/find?{TIME}"))["traces"]) == 1
    assert (await _json(pages, f"/api/find?end={START_NS // 1000 - 1}"))["traces"] == []


async def test_why(store: Store, pages: httpx.AsyncClient) -> None:
    """What sets traces apart that meet a query, fail, or lie in a box of time and duration."""
    for trace in range(1, 21):
        at = START_NS + trace * 1_000_000
        sent = called(trace, "orders", "payments" if trace % 2 else "shipping", start_ns=at, error="late" * (trace % 2))
        ingest_traces(sent.SerializeToString(), store)
    expected = [("payments it", 10, 0)]
    box = f"from={START_NS // 1000}&to={START_NS // 1000 + 10_000}&shortest=10000000&longest=10000000"
    for path, told in (
        ("/api/why?select=errors", expected),
        ("/api/why?select=query&q=error", expected),
        (f"/api/why?select=box&{box}", []),
        (f"/api/why?select=box&{box}&start={START_NS // 1000 + 5000}", []),
    ):
        answer = await _json(pages, path)
        assert (answer["selected"] + answer["rest"], answer["complete"]) == (16 if "start" in path else 20, True)
        assert [(one["value"], one["selected"], one["rest"]) for one in answer["attributes"]] == told


async def test_trace(store: Store, pages: httpx.AsyncClient) -> None:
    """One trace, with all its spans; and as a file of OTLP JSON."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    assert len((await _json(pages, f"/api/recent/{TRACE}"))["spans"]) == 2
    as_otlp = await pages.get(f"/api/recent/{TRACE}/otlp")
    assert len(as_otlp.json()["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 2
    assert as_otlp.headers["content-disposition"] == f'attachment; filename="trace-{TRACE}.json"'


async def test_unfinished_trace(store: Store, pages: httpx.AsyncClient) -> None:
    """A trace of which nothing has ended can be looked at; what has ended stands beside what runs, each once."""
    assert (await pages.get(f"/api/recent/{TRACE}/otlp")).status_code == 404
    running = [notice(1, 1, name="root", ran_ns=10**9), notice(1, 2, 1, name="child", attributes=[text("a", "b")])]
    ingest_logs(log_request(*running, record("working")).SerializeToString(), store)
    answer = await _json(pages, f"/api/recent/{TRACE}/otlp")
    ((scope,),) = (resource["scopeSpans"] for resource in answer["resourceSpans"])
    root, child = scope["spans"]
    assert (root["name"], root["endTimeUnixNano"]) == ("root", "0")
    assert (child["parentSpanId"], child["attributes"]) == (
        span_id(1).hex(),
        [{"key": "a", "value": {"stringValue": "b"}}],
    )
    assert [one["spanID"] for one in answer["unfinished"]] == [span_id(1).hex(), span_id(2).hex()]
    assert answer["unfinished"][0]["elapsedNano"] >= 10**9
    assert len(answer["resourceLogs"][0]["scopeLogs"][0]["logRecords"]) == 1
    add(store, span(1, 2, 1, name="child"))
    answer = await _json(pages, f"/api/recent/{TRACE}/otlp")
    spans = [one for resource in answer["resourceSpans"] for scope in resource["scopeSpans"] for one in scope["spans"]]
    assert sorted((one["name"], one["endTimeUnixNano"] == "0") for one in spans) == [("child", False), ("root", True)]
    assert [one["spanID"] for one in answer["unfinished"]] == [span_id(1).hex()]
    add(store, span(1, 1, name="root"))
    assert (await _json(pages, f"/api/recent/{TRACE}/otlp"))["unfinished"] == []


async def test_in_flight(store: Store, pages: httpx.AsyncClient) -> None:
    """Requests that take unusually long, how many there are at all, and how many could not be kept."""
    assert await _json(pages, "/api/in-flight") == {"inFlight": 0, "unusual": 0, "requests": [], "dropped": 0}
    running = [notice(1, ran_ns=10**10), notice(2, ran_ns=10)]
    ingest_logs(log_request(*running).SerializeToString(), store)
    answer = await _json(pages, "/api/in-flight")
    assert (answer["inFlight"], [one["traceID"] for one in answer["requests"]]) == (2, [TRACE])
    assert (await _json(pages, "/api/logs"))["logs"] == []


async def test_links_of_other_traces(store: Store, pages: httpx.AsyncClient) -> None:
    """A trace comes with the spans of other traces that link to it, and with those that it links to."""
    linking = nested(2, ["linking"])
    linking.resource_spans[0].scope_spans[0].spans[0].links.add(trace_id=trace_id(1), span_id=span_id(1))
    ingest_traces(nested(1, ["linked"]).SerializeToString(), store)
    ingest_traces(linking.SerializeToString(), store)
    assert (await _json(pages, f"/api/recent/{TRACE}/otlp"))["linkedFrom"] == [
        {
            "traceId": trace_id(2).hex(),
            "spanId": span_id(1).hex(),
            "stored": True,
            "service": "orders",
            "name": "linking",
            "linkedSpanId": span_id(1).hex(),
        }
    ]
    assert (await _json(pages, f"/api/recent/{trace_id(2).hex()}/otlp"))["linkedTo"] == [
        {"traceId": TRACE, "spanId": span_id(1).hex(), "stored": True, "service": "orders", "name": "linked"}
    ]


async def test_logs(store: Store, pages: httpx.AsyncClient) -> None:
    """Log records that a query asks for."""
    ingest_logs(log_request(record("out of stock"), record("shipped")).SerializeToString(), store)
    answer = await _json(pages, "/api/logs?q=stock")
    assert [log["body"] for log in answer["logs"]] == ["out of stock"]
    assert (answer["complete"], answer["searchedTo"]) == (True, None)


async def test_completion(store: Store, pages: httpx.AsyncClient) -> None:
    """A key is completed with what it means, where it is one of ours; a value as it was seen."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    assert (await _json(pages, "/api/completion?prefix=de"))["completions"] == [{"text": "depth", "hint": ""}]
    assert (await _json(pages, "/api/completion?prefix=serv"))["completions"] == [
        {"text": "service", "hint": "name of the service"}
    ]
    assert (await _json(pages, "/api/completion?key=operation&prefix=ro"))["completions"] == [{"text": "root"}]


async def test_statistics(store: Store, pages: httpx.AsyncClient) -> None:
    """All services within a time; the operations of one if it is named."""
    ingest_traces(called(1, "orders", "payments").SerializeToString(), store)
    answer = await _json(pages, f"/api/statistics?{TIME}&service=payments")
    assert [(one["name"], one["calls"]) for one in answer["services"]] == [("orders", 1), ("payments", 1)]
    assert [(one["name"], one["kind"]) for one in answer["operations"]] == [("payments it", "server")]
    assert (await _json(pages, "/api/statistics"))["services"] == []


async def test_map(store: Store, pages: httpx.AsyncClient) -> None:
    """Who called whom, and how often it failed."""
    ingest_traces(called(1, "orders", "payments", error="declined").SerializeToString(), store)
    assert (await _json(pages, f"/api/map?{TIME}"))["calls"] == [
        {"caller": "orders", "callee": "payments", "messaging": False, "calls": 1, "errors": 1}
    ]


async def test_errors(store: Store, pages: httpx.AsyncClient) -> None:
    """Errors within a time, in groups."""
    ingest_traces(called(1, "orders", "payments", error="declined").SerializeToString(), store)
    (group,) = (await _json(pages, f"/api/errors?{TIME}"))["groups"]
    assert (group["message"], group["count"], group["traceID"]) == ("declined", 1, TRACE)


async def test_metrics(store: Store, pages: httpx.AsyncClient) -> None:
    """Instruments, and the points of one within a time."""
    ingest_metrics(gauge_request("queue.length", 3).SerializeToString(), store)
    (instrument,) = (await _json(pages, "/api/instruments"))["instruments"]
    assert (instrument["service"], instrument["name"], instrument["type"]) == ("orders", "queue.length", "gauge")
    (series,) = (await _json(pages, f"/api/points?service=orders&name=queue.length&{TIME}"))["series"]
    assert [point["value"] for point in series["points"]] == [3]
    assert (await _json(pages, f"/api/points?service=orders&name=other&{TIME}"))["series"] == []


async def test_arrivals(receiver: httpx.AsyncClient, pages: httpx.AsyncClient) -> None:
    """What has arrived, what was refused and why, and who sent it."""
    now_ns = time.time_ns()
    body = called(1, "orders", "payments", start_ns=now_ns).SerializeToString()
    await receiver.post("/v1/traces", content=body, headers=PROTOBUF)
    await receiver.post("/v1/logs", content=b"\xff", headers=PROTOBUF)
    await receiver.post("/v1/metrics", content=gauge_request("queue", 1).SerializeToString(), headers=PROTOBUF)
    told = await _json(pages, "/api/arrivals")
    assert [(one["signal"], one["requests"], one["refused"]) for one in told["signals"]] == [
        ("traces", 1, 0),
        ("logs", 0, 1),
        ("metrics", 1, 0),
    ]
    assert told["signals"][0]["bytes"] == len(body)
    assert [(one["signal"], one["count"]) for one in told["refusals"]] == [("logs", 1)]
    minute = now_ns // 60_000_000_000 * 60_000_000
    assert told["senders"] == [
        {"name": "orders", "spans": 1, "lastSpan": minute, "logs": 0, "instruments": 1},
        {"name": "payments", "spans": 1, "lastSpan": minute, "logs": 0, "instruments": 0},
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/find?q=%22open", "is a quote missing?"),
        ("/api/find?q=NOT", "NOT stands before a condition"),
        ("/api/find?limit=0", "limit must be between"),
        ("/api/find?start=yesterday", "start must be a whole number"),
        ("/api/logs?q=%22open", "is a quote missing?"),
        ("/api/statistics?start=2&end=1", "start must be before end"),
        ("/api/map?start=0", "at most 31 days"),
        ("/api/why?select=some", "select must be errors, query or box"),
        ("/api/why?select=box&longest=never", "longest must be a whole number"),
        ("/api/recent/xyz", "a trace id has"),
    ],
)
async def test_bad_question(pages: httpx.AsyncClient, path: str, message: str) -> None:
    """What is malformed is 400, with what is wrong about it."""
    response = await pages.get(path)
    assert response.status_code == 400
    assert message in response.json()["errors"][0]["msg"]


@pytest.mark.parametrize("path", ["/api/recent/abc", "/api/recent/abc/otlp", "/api/recent/abc/usual"])
async def test_unknown_trace(pages: httpx.AsyncClient, path: str) -> None:
    """A trace that is not kept is 404."""
    assert (await pages.get(path)).status_code == 404
