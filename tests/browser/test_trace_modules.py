"""What the trace page computes, without its elements: its modules run in the browser, on traces made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from observability.viewer.query import Comparison, parse
from tests.browser.conftest import Viewer

Run: TypeAlias = Callable[[str, object], Any]
START_NS = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def run(browser: Browser, ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Evaluates the body of a function of `input`, which may import the page's modules."""
    viewer = Viewer(ports, tmp_path_factory.mktemp("viewer"))
    page = browser.new_page()
    page.goto(f"{viewer.url}/open")

    def evaluate(body: str, argument: object) -> Any:
        return page.evaluate(
            "async (input) => {"
            "const load = (name) => import(`/pages/trace/${name}.js`);"
            "const { tracesOf, documents } = await load('otlp');"
            "const { grow } = await load('tree');"
            "const treeOf = (value) => grow(tracesOf([value]).traces[0]);"
            f"{body}}}",
            argument,
        )

    yield evaluate
    page.close()
    viewer.stop()


def _value(value: object) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
    return {"stringValue": value}


def _attributes(values: dict[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _span(
    index: int,
    parent: int | None = None,
    start: int = 0,
    end: int = 100,
    *,
    kind: int = 1,
    name: str = "call",
    error: bool = False,
    events: list[Any] | None = None,
    **values: object,
) -> dict[str, Any]:
    """A span as OTLP JSON; in the names of its attributes `_` stands for a dot, and `__` for itself."""
    return {
        "traceId": f"{1:032x}",
        "spanId": f"{index:016x}",
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(START_NS + start),
        "endTimeUnixNano": str(START_NS + end),
        "attributes": _attributes(
            {key.replace("__", "-").replace("_", ".").replace("-", "_"): value for key, value in values.items()}
        ),
        "events": events or [],
        "status": {"code": 2} if error else {},
    }


def _trace(*spans: dict[str, Any], service: str = "orders") -> dict[str, list[Any]]:
    resource = {"attributes": _attributes({"service.name": service})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


_SHOWN = """
    const { shownChildren } = await load('attempts');
    const number = (item) => parseInt(item.id, 16);
    return shownChildren(treeOf(input)[0]).map((item) =>
        item.type === 'attempts' ? [item.children.map(number), item.waits] : number(item));
"""


def _client(index: int, start: int, end: int, **values: Any) -> dict[str, Any]:
    return _span(index, 1, start, end, kind=3, clearspan_peer="payments", **values)


def test_attempts_of_two_calls(run: Run) -> None:
    """Attempts that count on belong to one call; a count that begins anew is another call, another peer's another."""
    trace = _trace(
        _span(1),
        _client(2, 0, 10),
        _client(3, 15, 20, http_request_resend__count=1),
        _client(4, 30, 40),
        _client(5, 42, 50, http_request_resend__count=1),
        _span(6, 1, 60, 70, kind=3, clearspan_peer="inventory"),
    )
    assert run(_SHOWN, trace) == [[[2, 3], [[10, 15]]], [[4, 5], [[40, 42]]], 6]


def test_refused_attempt(run: Run) -> None:
    """An attempt that was refused has no count: it belongs to the call whose retry was announced before it."""
    retry = {
        "name": "clearspan.retry",
        "timeUnixNano": str(START_NS + 10),
        "attributes": _attributes({"clearspan.peer": "payments", "clearspan.attempt": 1}),
    }
    trace = _trace(
        _span(1, events=[retry]),
        _client(2, 0, 10),
        _client(3, 20, 20, error_type="BreakerOpen", error=True),
        _client(4, 30, 30, error_type="BreakerOpen", error=True),
    )
    assert run(_SHOWN, trace) == [[[2, 3], [[10, 20]]], 4]


@pytest.mark.parametrize(
    ("span", "outcome"),
    [
        (_span(1, kind=3, error_type="BulkheadFull", error=True), "refused"),
        (_span(1, kind=3, error_type="AttemptTimedOut", error=True), "cancelled"),
        (_span(1, kind=3, error_type="hedge_lost"), "cancelled"),
        (_span(1, kind=2, clearspan_client_disconnected=True), "cancelled"),
        (_span(1, kind=2, error_type="500", error=True), "failed"),
        (_span(1, kind=2), ""),
    ],
)
def test_outcome(run: Run, span: dict[str, object], outcome: str) -> None:
    """What became of a span is told by its error's type and its status."""
    assert run("return (await load('attempts')).outcome(treeOf(input)[0])", _trace(span)) == outcome


def test_waits_of_a_message(run: Run) -> None:
    """A message waits from its producer's end, and again from the end of the attempt to process it that failed."""
    trace = _trace(
        _span(1, None, 0, 10, kind=4),
        _span(2, 1, 30, 40, kind=5, name="process", error=True),
        _span(3, 1, 90, 95, kind=5, name="process"),
    )
    code = """
        const { waitedSince } = await load('attempts');
        const [root] = treeOf(input);
        return [waitedSince(root), ...root.children.map(waitedSince)];
    """
    assert run(code, trace) == [None, 10, 40]


_PATH = """
    const { criticalPath } = await load('critical-path');
    return [...criticalPath(treeOf(input))].map(([id, parts]) => [parseInt(id, 16), parts]);
"""


def test_critical_path(run: Run) -> None:
    """The path leads back over the children that ended last; it leaves out what ran beside them, or was not awaited."""
    trace = _trace(
        _span(1, None, 0, 100),
        _span(2, 1, 10, 40),
        _span(3, 1, 20, 35),  # beside 2
        _span(4, 1, 50, 90),
        _span(5, 4, 60, 95),  # cut at the end of 4
        _span(6, 1, 91, 200, kind=5),  # nobody waits for a consumer
    )
    assert dict(run(_PATH, trace)) == {
        1: [[90, 100], [40, 50], [0, 10]],
        2: [[10, 40]],
        4: [[50, 60]],
        5: [[60, 90]],
    }


_TREES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=25)


@settings(max_examples=60)
@given(_TREES)
def test_path_fills_its_root(run: Run, tree: list[tuple[int, int, int]]) -> None:
    """Whatever the spans, the parts of the path do not overlap and are together as long as the root."""
    first, *others = (
        _span(index, None if index == 1 else parent % (index - 1) + 1, min(times), max(times))
        for index, (parent, *times) in enumerate(tree, 1)
    )
    parts = sorted(part for _, of_span in run(_PATH, _trace(first, *others)) for part in of_span)
    ends = [int(str(first[f"{name}TimeUnixNano"])) - START_NS for name in ("start", "end")]
    least = min(int(str(span["startTimeUnixNano"])) for span in (first, *others)) - START_NS
    assert sum(end - start for start, end in parts) == ends[1] - ends[0]
    assert all(before[1] <= after[0] for before, after in pairwise(parts))
    assert all(ends[0] - least <= start < end <= ends[1] - least for start, end in parts)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_every_span_has_a_row(run: Run, parents: list[int]) -> None:
    """Whoever is whose parent, and whether it has come: each span is in the tree once."""
    spans = [_span(index, parent, index, index) for index, parent in enumerate(parents, 1)]
    code = """
        const { rowsOf } = await load('rows');
        return rowsOf(treeOf(input), new Set(), { lines: true, loose: [] }).map(({ item }) => parseInt(item.id, 16));
    """
    assert sorted(run(code, _trace(*spans))) == list(range(1, len(parents) + 1))


def test_exact_times(run: Run) -> None:
    """Times are exact to the nanosecond, although a number of JavaScript cannot hold them since 1970."""
    trace = _trace(_span(1, None, 1, 4), _span(2, 1, 2, 3))
    code = """
        const [trace] = tracesOf([input]).traces;
        return [String(trace.start), trace.length, ...trace.spans.map(({ start, end }) => [start, end])];
    """
    assert run(code, trace) == [str(START_NS + 1), 3, [0, 3], [1, 2]]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        7,
        None,
        {"resourceSpans": {}},
        {"resourceSpans": [None, {"scopeSpans": [None, {"spans": [None, 7, {}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "g" * 32, "spanId": "1" * 16}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0" * 32, "spanId": "1" * 16}]}]}]},
    ],
)
def test_what_is_no_trace(run: Run, document: object) -> None:
    """What has no spans with valid ids has no traces, whatever it is instead."""
    assert run("return tracesOf(documents(JSON.stringify(input))).traces", document) == []


def test_bounds(run: Run) -> None:
    """Spans beyond the bound of a trace are left out and counted; one that comes twice is one."""
    code = """
        const otlp = await load('otlp');
        const spans = Array.from({ length: otlp.MAX_SPANS + 5 }, (_, index) =>
            ({ traceId: '1'.repeat(32), spanId: (index + 1).toString(16).padStart(16, '0') }));
        const { traces, leftOut } = tracesOf([{ resourceSpans: [{ scopeSpans: [{ spans }] }] }]);
        const twice = tracesOf([{ resourceSpans: [{ scopeSpans: [{ spans: [spans[0], spans[0]] }] }] }]);
        return [traces[0].spans.length === otlp.MAX_SPANS, leftOut, twice.traces[0].spans.length];
    """
    assert run(code, None) == [True, 5, 1]


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_search(run: Run, key: str, value: str) -> None:
    """The search for a value finds exactly it, in the viewer's language, whatever it holds."""
    link = run("return (await load('attributes')).search(input[0], input[1])", [key, value])
    (query,) = parse_qs(urlsplit(link).query)["q"]
    (found,) = parse(query)
    assert isinstance(found, Comparison)
    assert (found.key, found.exact) == (key, value)


@pytest.mark.parametrize(
    ("view", "labels"),
    [
        ([0, 45_000_000], ["0", "10 ms", "20 ms", "30 ms", "40 ms"]),
        ([1_500, 2_600], ["1.6 µs", "1.8 µs", "2.0 µs", "2.2 µs", "2.4 µs", "2.6 µs"]),
        ([0, 3], ["0", "1 ns", "2 ns", "3 ns"]),
        ([9_000_000_000, 9_000_400_000], ["9.0000 s", "9.0001 s", "9.0002 s", "9.0003 s", "9.0004 s"]),
    ],
)
def test_ticks(run: Run, view: list[int], labels: list[str]) -> None:
    """Ticks are round, few, and told apart by their labels."""
    code = """
        const { scaleOf, ticks } = await load('scale');
        return ticks(scaleOf(1e10, [], false), input, 6).map((tick) => tick.label);
    """
    assert run(code, view) == labels


def test_squeezed(run: Run) -> None:
    """Long times in which nothing is done take a small part of the line, and have no ticks; others stay as they are."""
    code = """
        const { mostlyIdle, scaleOf, ticks } = await load('scale');
        const idle = [[10, 12], [50, 940], [950, 950.5]];
        const scale = scaleOf(1000, idle, true);
        const places = [0, 50, 940, 1000].map((at) => Math.round(scale.place(at)));
        return [mostlyIdle(1000, idle), scale.gaps, Math.round(scale.length), places,
            ticks(scale, [0, 1000], 6).map(({ at }) => at)];
    """
    assert run(code, None) == [True, [[50, 940]], 114, [0, 50, 54, 114], [0, 20, 40, 940, 960, 980, 1000]]


_INTERVALS = st.lists(st.integers(0, 1000), max_size=8, unique=True).map(
    lambda ends: [list(pair) for pair in zip(*[iter(sorted(ends))] * 2, strict=False)]
)


@settings(max_examples=60)
@given(_INTERVALS, st.lists(st.floats(-10, 1010), min_size=2, max_size=5))
def test_places_keep_their_order(run: Run, idle: list[list[int]], times: list[float]) -> None:
    """Whatever is squeezed, later times lie further on, and each place leads back to its time."""
    code = """
        const { scaleOf } = await load('scale');
        const scale = scaleOf(1000, input[0], true);
        return input[1].map((time) => [scale.place(time), scale.time(scale.place(time))]);
    """
    times = sorted(times)
    found = run(code, [idle, times])
    assert [place for place, _ in found] == sorted(place for place, _ in found)
    assert [time for _, time in found] == pytest.approx(times, abs=1e-3)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "at": st.floats(-50, 1100),
            "width": st.floats(0.001, 1000),
            "factor": st.floats(0.01, 100),
            "share": st.floats(-3, 3),
            "squeezed": st.booleans(),
        }
    )
)
def test_view_stays_in_the_trace(run: Run, how: dict[str, float]) -> None:
    """However it is zoomed and moved, the view lies within the trace, and is not empty."""
    code = """
        const { zoomed, moved } = await load('view');
        const { scaleOf } = await load('scale');
        const state = { trace: { length: 1000 }, scale: scaleOf(1000, [[100, 900]], input.squeezed) };
        const { at, width, factor, share } = input;
        const zoom = zoomed([at, at + width], at + width / 2, factor, state);
        return [zoom, moved(zoom, share, state)];
    """
    for start, end in run(code, how):
        assert -1e-9 <= start < end <= 1000 + 1e-9


def test_service_graph(run: Run) -> None:
    """Services stand in layers by who calls first; an answer by message does not move its receiver."""
    trace = {
        "resourceSpans": [
            *_trace(_span(1, kind=2), _span(2, 1, kind=3), _span(5, 4, kind=5))["resourceSpans"],
            *_trace(_span(3, 2, kind=2, error=True), service="payments")["resourceSpans"],
            *_trace(_span(4, 1, kind=5), service="shipping")["resourceSpans"],
        ]
    }
    code = """
        const { serviceGraph } = await load('service-graph');
        const [trace] = tracesOf([input]).traces;
        grow(trace);
        const { services, calls } = serviceGraph(trace.spans);
        return [services.map(({ name, layer }) => [name, layer]).sort(),
            calls.map(({ from, to, errors, messages }) => [from, to, errors, messages]).sort()];
    """
    assert run(code, trace) == [
        [["orders", 0], ["payments", 1], ["shipping", 1]],
        [["orders", "payments", 1, False], ["orders", "shipping", 0, True], ["shipping", "orders", 0, True]],
    ]


def test_unfinished_spans_grow(run: Run) -> None:
    """What runs ends where it is now, what is silent where it was last heard of, and the trace with the last of all."""
    grown = """
        const { extend, stateOf } = await load('running');
        const { traces: [trace] } = tracesOf([input]);
        const told = [['1', 500, 0], ['2', 70, 185e9], ['3', 900, 0]].map(([id, elapsedNano, silentNano]) =>
            ({ spanID: id.padStart(16, '0'), elapsedNano, silentNano }));
        extend(trace, told, 20);
        return [trace.length, trace.spans.map((span) => [span.end - span.start, stateOf(span)])];
    """
    spans = [_span(1), _span(2, 1, 10), _span(3, 1, 20, 60), _span(4, 1, 30)]
    for one in (0, 1, 3):
        spans[one]["endTimeUnixNano"] = "0"
    assert run(grown, _trace(*spans)) == [
        520,
        [[520, "running"], [70, "no word for 3 min"], [40, ""], [0, "has not ended"]],
    ]


def test_words_of_silence(run: Run) -> None:
    """Silence is told in seconds and, when it lasts, in minutes; a time that goes on to a tenth of a second."""
    words = "const { noWord, ongoing } = await load('running'); return [input.map(noWord), input.map(ongoing)];"
    assert run(words, [30.9e9, 119.9e9, 120e9, 599e9]) == [
        ["no word for 30 s", "no word for 119 s", "no word for 2 min", "no word for 9 min"],
        ["30.9 s", "120 s", "120 s", "599 s"],
    ]
    assert run(words, [999.4, 12_345_678, 1_290_000_000])[1] == ["999 ns", "12.3 ms", "1.20 s"]


_MERGED = """
    const { merge, differences } = await load('merge');
    const { nodes, added, missing, slower } = merge(...input.map((one) => treeOf(one)));
    const number = (span) => (span ? parseInt(span.id, 16) : null);
    return {
        nodes: nodes.map(({ a, b, level, state }) => [number(a), number(b), level, state]),
        counts: [added, missing, slower],
        differences: differences(nodes, 2).map(({ node, by }) => [number(node.a), number(node.b), by]),
    };
"""


def test_merged_traces(run: Run) -> None:
    """Spans of two traces are the same by service, operation and position; others were added, or are missing."""
    before = _trace(
        _span(1, None, 0, 100),
        _span(2, 1, 0, 10, name="SELECT"),
        _span(3, 1, 10, 20, name="SELECT"),
        _span(4, 1, 20, 90, name="PUT"),
        _span(5, 4, 30, 40, name="gone"),
    )
    after = _trace(
        _span(11, None, 0, 300),
        _span(12, 11, 0, 11, name="SELECT"),
        _span(13, 11, 12, 92, name="SELECT"),
        _span(14, 11, 95, 165, name="PUT"),
        _span(15, 14, 100, 110, name="new"),
        _span(16, 11, 170, 290, name="SELECT"),
    )
    merged = run(_MERGED, [before, after])
    assert merged["nodes"] == [
        [1, 11, 1, "slower"],
        [2, 12, 2, "same"],
        [3, 13, 2, "slower"],
        [4, 14, 2, "same"],
        [None, 15, 3, "added"],
        [5, None, 3, "missing"],
        [None, 16, 2, "added"],
    ]
    assert merged["counts"] == [2, 1, 2]
    assert merged["differences"] == [[None, 16, 120], [3, 13, 70]]


@settings(max_examples=60)
@given(st.tuples(_TREES, _TREES))
def test_merge_has_every_span_once(run: Run, trees: tuple[list[tuple[int, int, int]], ...]) -> None:
    """Whatever two traces are, each span of either is in the merged tree once."""
    traces = [
        _trace(
            *(
                _span(index, None if index == 1 else parent % (index - 1) + 1, min(times), max(times))
                for index, (parent, *times) in enumerate(tree, 1)
            )
        )
        for tree in trees
    ]
    nodes = run(_MERGED, traces)["nodes"]
    for side, tree in enumerate(trees):
        assert sorted(node[side] for node in nodes if node[side] is not None) == list(range(1, len(tree) + 1))
