"""Every panel of every dashboard shows something in the real pipeline, or `empty.py` says why it does not.

It has seen orders of all kinds, and services that hang (`trouble.py`).
"""

from __future__ import annotations

import pytest

from tests.queries import dashboard_queries, dashboards, log_queries
from tests.stack.answers import without_data, without_lines
from tests.stack.empty import never, sometimes
from tests.stack.series import committed, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def test_every_panel_has_data(prometheus: str) -> None:
    """Each query of a panel returns data, or it is known why it does not."""
    expressions = {query.expression for query in dashboard_queries()}
    wanted = {expression for expression in expressions if not never(expression) and not sometimes(expression)}
    assert without_data(prometheus, wanted) == set()


def test_panels_that_should_be_empty_are(prometheus: str) -> None:
    """What is said never to happen here does not."""
    expected = {query.expression for query in dashboard_queries() if never(query.expression)}
    assert without_data(prometheus, expected, expected=expected) == expected


def test_every_panel_of_logs_has_lines(loki: str) -> None:
    """So do the queries that ask Loki."""
    expressions = {query.expression for query in log_queries()}
    wanted = {expression for expression in expressions if not never(expression) and not sometimes(expression)}
    assert without_lines(loki, wanted) == set()


def test_panels_of_logs_that_should_be_empty_are(loki: str) -> None:
    """Nor does Loki have what is said never to happen here."""
    expected = {query.expression for query in log_queries() if never(query.expression)}
    assert without_lines(loki, expected, expected=expected) == expected


def test_the_variable_finds_the_services(prometheus: str) -> None:
    """The metric that the choice of services comes from is there."""
    metrics = {
        variable["definition"].removeprefix("label_values(").split(",")[0]
        for dashboard in dashboards().values()
        for variable in dashboard["templating"]["list"]
    }
    assert without_data(prometheus, metrics) == set()


def test_the_committed_list_is_what_comes_out_of_the_pipeline(prometheus: str) -> None:
    """`series.txt`, by which the default suite judges names, has what this Prometheus has."""
    often = {name for name, series in committed().items() if not series.seldom}
    assert without_data(prometheus, often) == set()
    found = running(prometheus)
    unknown_labels = {
        name: set(series.labels - committed()[name].labels)
        for name, series in found.items()
        if name in committed() and not series.labels <= committed()[name].labels
    }
    assert unknown_labels == {}
