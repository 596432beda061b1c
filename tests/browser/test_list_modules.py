"""What the pages that list compute, without their elements: their modules run in the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from observability.viewer.query import Comparison, parse
from tests.browser.conftest import Viewer

Run: TypeAlias = Callable[[str, object], Any]
EXAMPLES = settings(max_examples=100, deadline=None)
# Surrogates alone cannot be told to a browser, and a query has at most 2000 characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.sampled_from("abcdefgh")


@pytest.fixture(scope="module")
def run(browser: Browser, ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Evaluates the body of a function of `input`, which may import the pages' modules."""
    viewer = Viewer(ports, tmp_path_factory.mktemp("viewer"))
    page = browser.new_page()
    page.goto(f"{viewer.url}/doctor")

    def evaluate(body: str, argument: object) -> Any:
        return page.evaluate(
            f"async (input) => {{ const load = (name) => import(`/pages/${{name}}.js`); {body} }}", argument
        )

    yield evaluate
    page.close()
    viewer.stop()


@EXAMPLES
@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=4, unique=True))
@example([("NOT", "error"), ("a=b", "*"), ('"', "\\"), ("x", "")])
def test_conditions_are_read_as_they_were_meant(run: Run, pairs: list[tuple[str, str]]) -> None:
    """Whatever key and value a page writes into a query is read as this key and exactly this value."""
    body = """
        const { condition, narrowed } = await load("query");
        return input.reduce((query, [key, value]) => narrowed(query, condition(key, value)), "");
    """
    query = parse(run(body, pairs))
    found = [(one.key, one.exact) for one in query if isinstance(one, Comparison)]
    assert found == pairs


@EXAMPLES
@given(st.lists(st.tuples(NAMES, NAMES).filter(lambda edge: edge[0] != edge[1]), max_size=16, unique=True))
@example([("a", "b"), ("b", "c"), ("c", "a"), ("a", "d"), ("c", "d")])
def test_layers(run: Run, edges: list[tuple[str, str]]) -> None:
    """Calls lead to the right, but for those that close a circle; nobody shares a place with anybody."""
    names = sorted({name for edge in edges for name in edge})
    body = """
        const { layers } = await load("layers");
        const edges = input.edges.map(([from, to]) => ({ from, to }));
        const { columns, at, paths, back } = layers(input.names, edges);
        return { columns, at: [...at], paths: [...paths].map(([, path]) => path), back: back.size };
    """
    told = run(body, {"names": names, "edges": edges})
    at = {place: (where["column"], where["row"]) for place, where in told["at"]}
    assert len(set(at.values())) == len(at)
    assert {name for column in told["columns"] for name in column} == set(at)
    assert set(names) <= set(at)
    assert len(told["paths"]) + told["back"] == len(edges)
    for path in told["paths"]:
        assert [at[place][0] - at[path[0]][0] for place in path] == list(range(len(path)))
    if not told["back"]:
        assert {(path[0], path[-1]) for path in told["paths"]} == set(edges)


@pytest.mark.parametrize(
    ("instrument", "points", "values"),
    [
        ({"type": "gauge"}, [(10, 5, 0), (20, 3, 0)], [[10, 5], [20, 3]]),
        ({"type": "sum", "monotonic": False}, [(10, 5, 0)], [[10, 5]]),
        ({"type": "sum", "monotonic": True}, [(1, 5, 0), (3, 9, 0)], [[3, 2]]),
        # Its process began anew: what it has counted since.
        ({"type": "sum", "monotonic": True}, [(1, 5, 0), (3, 4, 2)], [[3, 2]]),
        ({"type": "sum", "monotonic": True}, [(1, 5, 0), (3, 4, 0)], [[3, 2]]),
        ({"type": "sum", "monotonic": True, "delta": True}, [(3, 4, 1), (5, 6, 3)], [[3, 2], [5, 3]]),
        ({"type": "sum", "monotonic": True}, [], []),
    ],
)
def test_values(run: Run, instrument: object, points: list[tuple[int, int, int]], values: list[list[float]]) -> None:
    """A value is told as it is, and a count as its rate a second."""
    body = """
        const { values } = await load("series");
        return values({ points: input.points }, input.instrument).map(([time, value]) => [time / 1e6, value]);
    """
    told = [{"time": time * 10**6, "value": value, "start": start * 10**6} for time, value, start in points]
    assert run(body, {"points": told, "instrument": instrument}) == values


@EXAMPLES
@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=1, max_size=6))
def test_distributions(run: Run, added: list[list[int]]) -> None:
    """What came between two points of a histogram is told, whatever its points count from."""
    body = """
        const { distributions } = await load("series");
        return input.map(({ points, delta }) => distributions({ points }, { delta }).map(({ counts }) => counts));
    """
    sums = [[sum(counts[at] for counts in added[: number + 1]) for at in range(4)] for number in range(len(added))]
    series = [
        {
            "points": [
                {"time": time * 10, "start": 1, "count": sum(counts), "bounds": [1, 2, 5], "counts": counts}
                for time, counts in enumerate(points, 1)
            ],
            "delta": delta,
        }
        for points, delta in ((added, True), (sums, False))
    ]
    from_each_other, from_the_start = run(body, series)
    assert from_each_other == added
    assert from_the_start == added[1:]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([0, 4, 0, 0], 0.25, 1.25),
        ([1, 1, 2, 0], 1, 5),
        ([1, 0, 0, 3], 0.99, 5),  # above all bounds: no more can be said
    ],
)
def test_quantile(run: Run, counts: list[int], share: float, value: float | None) -> None:
    """A quantile lies between the bounds of its bucket."""
    body = 'const { quantile } = await load("series"); return quantile(input.of, input.share);'
    assert run(body, {"of": {"bounds": [1, 2, 5], "counts": counts}, "share": share}) == value


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("chart.percent(0, 0)", "0 %"),
        ("chart.percent(1, 100000)", "<0.1 %"),
        ("chart.percent(1, 3)", "33.3 %"),
        ("chart.percent(3, 3)", "100 %"),
        ("chart.short(0)", "0"),
        ("chart.short(0.01234)", "0.0123"),
        ("chart.short(1234567)", "1.23M"),
        ("units.measured(0.25, 's')", "250 ms"),
        ("units.measured(0, 's')", "0"),
        ("units.measured(-0.25, 's')", "-0.25"),
        ("units.measured(1536, 'By')", "1.5 KiB"),
        ("units.measured(3, '{request}')", "3"),
        ("units.measured(3, 'V')", "3 V"),
    ],
)
def test_figures(run: Run, call: str, text: str) -> None:
    """Figures have three digits at most, their unit, and are 0 only if they are."""
    assert run(f'const [chart, units] = [await load("chart"), await load("units")]; return {call};', None) == text


@pytest.mark.parametrize(
    ("known", "shown", "entries", "waiting"),
    [
        ("cba", "cba", "cba", 0),
        ("edcba", "cba", "cba", 2),
        ("dcba", "db", "dba", 1),  # what belongs between two rows waits as well
        ("cba", "c", "cba", 0),  # what is older moves nothing
        ("edc", "cba", "cba", 2),  # what is not known any more stays while it is read
        ("fed", "cba", "cba", 3),
    ],
)
def test_beside_reader(run: Run, known: str, shown: str, entries: str, waiting: int) -> None:
    """While rows are read, nothing comes above or between them, and none goes."""
    body = """
        const { besideReader } = await load("live");
        const [known, shown] = input.map((keys) => new Map([...keys].map((key) => [key, key])));
        const { entries, waiting } = besideReader(known, shown);
        return [entries.map(([key]) => key).join(""), waiting];
    """
    assert run(body, [known, shown]) == [entries, waiting]
