"""`clearspan traces`, `trace` and `logs` against a running viewer."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from observability import cli
from observability.look import Viewer, duration, in_flight_line
from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.ingest import ingest_logs, ingest_traces
from observability.viewer.store import Store
from observability.viewer.token import Token
from tests.observability.viewer.samples import (
    START_NS,
    called,
    log_request,
    nested,
    notice,
    record,
    request,
    span,
    span_id,
    text,
    trace_id,
)
from tests.serving import serving

pytestmark = pytest.mark.anyio

TRACE = trace_id(1).hex()
HOSTILE = "\x1b[2Jname\nforged\u202e"
HARMLESS = "\\u001b[2Jname\\u000aforged\\u202e"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store with room for 2 MiB."""
    store = Store(tmp_path, max_bytes=2 * 1024 * 1024)
    yield store
    store.close()


@pytest.fixture
async def url(store: Store) -> AsyncIterator[str]:
    """Where a viewer of the store answers."""
    async with serving(create_pages(store, Arrivals(), otlp_url="")) as served:
        yield f"http://127.0.0.1:{served.port}"


async def _clearspan(*arguments: str) -> tuple[int, str, str]:
    """The exit code and what was written to stdout and stderr."""

    def run() -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.app(list(arguments))
            except SystemExit as end:
                return int(end.code or 0), out.getvalue(), err.getvalue()
        raise AssertionError

    return await anyio.to_thread.run_sync(run)


async def test_traces(store: Store, url: str) -> None:
    """The newest traces that a query asks for, the newest last, in a line each."""
    for number in (1, 2, 3):
        error = "declined" if number == 2 else ""
        sent = called(number, "orders", "payments", error=error, start_ns=START_NS + number)
        ingest_traces(sent.SerializeToString(), store)
    code, out, err = await _clearspan("traces", "service=payments", "--limit", "2", "--url", url)
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 2)
    assert lines[0].startswith(trace_id(2).hex())
    assert lines[0].endswith("10.0 ms       payments it  (orders 1, payments 1)  ERRORS 1")
    code, out, _ = await _clearspan("traces", "error", "--json", "--url", url)
    assert [json.loads(line)["traceID"] for line in out.splitlines()] == [trace_id(2).hex()]


async def test_trace(store: Store, url: str) -> None:
    """One trace as a tree with its logs, and where its page is; or as JSON."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    ingest_logs(log_request(record("placed", span_id=span_id(2))).SerializeToString(), store)
    assert await _clearspan("trace", TRACE, "--url", url) == (
        0,
        f"""\
trace 1
  orders INTERNAL root
    orders INTERNAL child
      · INFO placed

{url}/trace/{TRACE}
""",
        "",
    )
    _, out, _ = await _clearspan("trace", TRACE.lstrip("0"), "--json", "--url", url)
    assert len(json.loads(out)["spans"]) == 2


async def test_unfinished(store: Store, url: str) -> None:
    """Requests that do not end stand below the traces, and unfinished spans among the others in a tree."""
    ingest_traces(nested(2, ["root", "child"]).SerializeToString(), store)
    running = [
        notice(1, 1, name=HOSTILE, ran_ns=3 * 10**9, start_ns=-(10**9)),
        notice(1, 2, 1, name="charge", kind="client", ran_ns=2 * 10**9, attributes=[text("clearspan.peer", HOSTILE)]),
    ]
    ingest_logs(log_request(*running).SerializeToString(), store)
    ingest_traces(request([span(1, 3, 1, name="reserve")]).SerializeToString(), store)
    code, out, err = await _clearspan("traces", "--url", url)
    last = out.splitlines()[-1]
    assert (code, err, len(out.splitlines())) == (0, "", 3)
    assert last.startswith(trace_id(1).hex())
    assert f"{HARMLESS}  (orders)  RUNNING for " in last
    assert last.endswith(f"in orders charge  to {HARMLESS}")
    assert len((await _clearspan("traces", "service=orders", "--url", url))[1].splitlines()) == 2
    code, out, _ = await _clearspan("trace", TRACE, "--url", url)
    root, charge, reserve = out.splitlines()[1:4]
    assert root.startswith(f"  orders SERVER {HARMLESS} RUNNING for ")
    assert reserve == "    orders SERVER reserve"
    assert charge.startswith("    orders CLIENT charge RUNNING for ")
    _, out, _ = await _clearspan("trace", TRACE, "--json", "--url", url)
    assert [one["spanID"] for one in json.loads(out)["unfinished"]] == [span_id(1).hex(), span_id(2).hex()]


def test_a_silent_span() -> None:
    """Of a span that nothing is heard of any more it is told for how long."""
    told = {
        "traceID": TRACE,
        "startTime": START_NS // 1000,
        "elapsedNano": 10**9,
        "silentNano": 180 * 10**9,
        "name": "POST /orders",
        "service": "orders",
        "waitsFor": None,
    }
    assert in_flight_line(told).endswith("POST /orders  (orders)  NOT ENDED, no word for 180 s")


async def test_logs(store: Store, url: str) -> None:
    """Log records that a query asks for, the newest last; those of no trace too."""
    records = [record("first"), record("second", time_unix_nano=START_NS + 1), record("third", trace_id=b"")]
    ingest_logs(log_request(*records).SerializeToString(), store)
    _, out, _ = await _clearspan("logs", "s", "--limit", "2", "--url", url)
    assert [line.split(" ", 1)[1] for line in out.splitlines()] == [
        f"INFO orders first trace={TRACE}",
        f"INFO orders second trace={TRACE}",
    ]
    _, out, _ = await _clearspan("logs", "second", "--json", "--url", url)
    assert [json.loads(line)["body"] for line in out.splitlines()] == ["second"]


@pytest.mark.parametrize(("command", "what"), [("traces", "trace"), ("logs", "log record")])
async def test_nothing_found(store: Store, url: str, command: str, what: str) -> None:
    """That nothing is found is said, where it does not disturb a program that reads what is."""
    assert await _clearspan(command, "--url", url) == (0, "", f"no {what} has arrived yet\n")
    ingest_traces(nested(1, ["root"]).SerializeToString(), store)
    ingest_logs(log_request(record("first")).SerializeToString(), store)
    assert await _clearspan(command, "nowhere", "--url", url) == (0, "", f"no {what} meets the query\n")


async def test_follow(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New records follow, also those that come late, each once."""
    monkeypatch.setattr("observability.look.FOLLOW_EVERY_S", 0)
    ingest_logs(log_request(record("first")).SerializeToString(), store)
    followed = Viewer(url).follow("", limit=10)

    async def following(number: int) -> list[str]:
        return await anyio.to_thread.run_sync(lambda: [one["body"] for one in itertools.islice(followed, number)])

    assert await following(1) == ["first"]
    ingest_logs(log_request(record("second", time_unix_nano=START_NS + 10)).SerializeToString(), store)
    assert await following(1) == ["second"]
    ingest_logs(log_request(record("late", time_unix_nano=START_NS + 5)).SerializeToString(), store)
    assert await following(1) == ["late"]


async def test_hostile_text(store: Store, url: str) -> None:
    """What a stranger sent can neither forge a line nor steer the terminal."""
    sent = called(1, HOSTILE, HOSTILE, error=HOSTILE)
    ingest_traces(sent.SerializeToString(), store)
    ingest_logs(log_request(record(HOSTILE, severity_text=HOSTILE, span_id=span_id(1))).SerializeToString(), store)
    for arguments, lines in ((["traces"], 1), (["trace", TRACE], 6), (["logs"], 1)):
        _, out, _ = await _clearspan(*arguments, "--url", url)
        assert len(out.splitlines()) == lines
        assert HARMLESS in out
        assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["traces", '"open'], 'this cannot be read from here on: "open (is a quote missing?)'),
        (["trace", "xyz"], "a trace id has up to 32 hexadecimal digits"),
        (["trace", "abc"], "trace not found"),
        (["logs", "NOT"], "NOT stands before a condition"),
    ],
)
async def test_refused(url: str, arguments: list[str], reason: str) -> None:
    """What the viewer does not have, or does not understand, is told in one line and with exit code 1."""
    assert await _clearspan(*arguments, "--url", url) == (1, "", f"clearspan: {reason}\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere"])
async def test_no_viewer(url: str) -> None:
    """Where nothing listens it is said how to start a viewer."""
    code, _, err = await _clearspan("traces", "--url", url)
    assert (code, err) == (
        1,
        f"clearspan: no viewer answers at {url}; start one with `clearspan viewer`, or name it with --url\n",
    )


async def test_token(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer that asks for its token is told it from the variable; without, it is said which."""
    token = "a token of the test"
    async with serving(create_pages(store, Arrivals(), otlp_url="", token=Token(token))) as served:
        url = f"http://127.0.0.1:{served.port}"
        code, _, err = await _clearspan("traces", "--url", url)
        assert (code, err) == (
            1,
            f"clearspan: the viewer at {url} asks for its token: set CLEARSPAN_VIEWER_TOKEN to it\n",
        )
        monkeypatch.setenv("CLEARSPAN_VIEWER_TOKEN", token)
        assert await _clearspan("traces", "--url", url) == (0, "", "no trace has arrived yet\n")


@pytest.mark.parametrize("answer", [{"detail": "Not Found"}, ["not", "found"], {"errors": []}])
async def test_something_else(answer: object) -> None:
    """Another server than a viewer is told apart."""
    routes = [Route("/api/find", lambda _request: JSONResponse(answer, 404))]
    async with serving(Starlette(routes=routes)) as served:
        code, _, err = await _clearspan("traces", "--url", f"http://127.0.0.1:{served.port}/")
    assert (code, err) == (1, f"clearspan: http://127.0.0.1:{served.port} is no viewer\n")


@pytest.mark.parametrize(("command", "path", "what"), [("traces", "find", "traces"), ("logs", "logs", "records")])
async def test_unfinished_search(command: str, path: str, what: str) -> None:
    """A search that did not look at everything says so, beside what it found."""
    answer = {command: [], "complete": False, "searchedTo": 1}
    async with serving(Starlette(routes=[Route(f"/api/{path}", lambda _request: JSONResponse(answer))])) as served:
        code, out, err = await _clearspan(command, "rare", "--url", f"http://127.0.0.1:{served.port}")
    assert (code, out) == (0, "")
    assert err.startswith(f"not all {what} were looked at")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (99_949, "99.9 µs"),
        (99_951, "100 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (1_240_000, "1.24 ms"),
        (12_345_000_000, "12.3 s"),
        (1_234_000_000_000, "1234 s"),
    ],
)
async def test_duration(ns: int, text: str) -> None:
    """A duration has three digits that count, and is never rounded to 0."""
    assert duration(ns) == text
