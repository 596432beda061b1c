"""Dashboards, rules, the collector's policies and the runbook speak of nothing that does not exist."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, get_args

import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv.attributes
import pytest
import yaml

import observability.telemetry
import service.telemetry
from observability.telemetry import Instrument
from tests.prometheus_names import Kind, label_name, series_names
from tests.queries import (
    ROOT,
    RUNBOOK,
    STACK,
    Query,
    dashboard_queries,
    dashboards,
    log_queries,
    mentions,
    panels,
    recorded_labels,
    result_labels,
    rule_queries,
    rules,
    runbook_queries,
)
from tests.stack.empty import NEVER, SOMETIMES
from tests.stack.series import TARGET, committed

_DECLARATIONS = {
    name: value
    for module in (observability.telemetry, service.telemetry)
    for name, value in vars(module).items()
    if name.isupper()
}
_OURS = ("clearspan_", "shop_")


def _kinds() -> dict[str, set[Kind]]:
    """How each declared metric is created, by the name of its declaration."""
    kinds: dict[str, set[Kind]] = {}
    for package in ("observability", "service"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                kind: Any = node.func.attr.removeprefix("create_").removeprefix("observable_")
                if node.func.attr.startswith("create_") and kind in get_args(Kind):
                    for name in (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)):
                        if isinstance(_DECLARATIONS.get(name), Instrument):
                            kinds.setdefault(name, set()).add(kind)
    return kinds


def _declared_series() -> set[str]:
    return {
        series
        for name, kinds in _kinds().items()
        for kind in kinds
        for series in series_names(_DECLARATIONS[name].name, _DECLARATIONS[name].unit, kind)
    }


def _attributes() -> set[str]:
    """Every attribute and event that our code or a semantic convention declares."""
    conventions = {
        value
        for package in (opentelemetry.semconv.attributes, opentelemetry.semconv._incubating.attributes)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, str)
    }
    return conventions | {value for value in _DECLARATIONS.values() if isinstance(value, str)}


def _queries() -> Iterator[Query]:
    yield from dashboard_queries()
    yield from rule_queries()
    yield from runbook_queries()
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            values = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert values
            yield Query(f"{name}: ${variable['name']}", f"count by ({values[2]}) ({values[1]})")


def test_every_declared_metric_is_made_in_one_way() -> None:
    """A declaration that nobody creates, or two create differently, tells a lie."""
    declared = {name for name, value in _DECLARATIONS.items() if isinstance(value, Instrument)}
    assert {name: kinds for name, kinds in _kinds().items() if len(kinds) != 1} == {}
    assert set(_kinds()) == declared


def test_declared_metrics_have_the_names_of_the_pipeline() -> None:
    """The list of the pipeline has each metric of ours, by the name that its declaration translates to, and no more."""
    assert {name for name in committed() if name.startswith(_OURS)} == _declared_series()


def test_labels_of_our_metrics_are_declared_attributes() -> None:
    """What labels a metric of ours has is declared, by us or by a semantic convention."""
    known = {label_name(attribute) for attribute in _attributes()} | {"le"}
    assert {
        series.name: series.labels - known
        for series in committed().values()
        if series.name.startswith(_OURS) and not series.labels <= known
    } == {}


@pytest.mark.parametrize("query", [pytest.param(query, id=query.where) for query in _queries()])
def test_queries_ask_for_what_there_is(query: Query) -> None:
    """Each metric of a query exists in the pipeline, with each label that it is chosen or grouped by."""
    recorded, series = recorded_labels(), committed()
    for metric, labels in mentions(query.expression).items():
        if metric in recorded:
            assert labels <= recorded[metric], metric
        else:
            assert metric in series, f"{metric} is no metric of the pipeline"
            assert labels <= series[metric].labels | TARGET, metric


def test_the_list_of_the_pipeline_is_no_longer_than_needed() -> None:
    """It has our own metrics, and those that somebody asks for."""
    asked = {metric for query in _queries() for metric in mentions(query.expression)}
    assert {name for name in committed() if not name.startswith(_OURS)} <= asked


@pytest.mark.parametrize("query", [pytest.param(query, id=query.where) for query in dashboard_queries()])
def test_legends_name_labels_of_the_result(query: Query) -> None:
    """A legend of labels that are not there reads as nothing."""
    wanted = set(re.findall(r"{{(\w+)}}", query.legend))
    left = result_labels(query.expression)
    if left is None:
        left = {label for metric in mentions(query.expression) for label in committed()[metric].labels | TARGET}
    assert wanted <= left


def test_annotations_of_alerts_name_labels_of_the_result() -> None:
    """So does a summary that is sent to somebody at night."""
    for rule in rules():
        if rule.is_alert:
            text = " ".join(rule.annotations.values())
            wanted = set(re.findall(r"\$labels\.(\w+)", text))
            recorded = recorded_labels()
            labels = result_labels(rule.expression) or {
                label
                for metric in mentions(rule.expression)
                for label in (recorded.get(metric) or committed()[metric].labels | TARGET)
            }
            assert wanted <= labels | set(rule.labels), rule.where


def test_sampling_looks_at_attributes_and_events_that_are_declared() -> None:
    """The collector's policies keep traces by names that the services use."""
    config = yaml.safe_load((STACK / "collector/config.yaml").read_text())
    text = yaml.safe_dump(config["processors"]["tail_sampling"])
    attributes = set(re.findall(r'attributes\[\\?"([\w.]+)\\?"\]', text))
    pattern = re.search(r'IsMatch\(spanevent\.name, \\?"\^([^"]+?)\$\\?"\)', text)
    assert attributes
    assert pattern
    prefix, alternatives = re.fullmatch(r"([^(]+)\((.+)\)", pattern[1]).groups()  # type: ignore[union-attr]
    events = {re.sub(r"\\+", "", prefix + one) for one in alternatives.split("|")}
    assert attributes | events <= _attributes()


def test_attributes_that_name_series_are_declared() -> None:
    """Prometheus promotes, and span metrics go by, attributes of resources that the conventions know."""
    collector = yaml.safe_load((STACK / "collector/config.yaml").read_text())
    prometheus = yaml.safe_load((STACK / "prometheus/prometheus.yaml").read_text())
    named = set(prometheus["otlp"]["promote_resource_attributes"])
    named |= set(collector["connectors"]["span_metrics"]["resource_metrics_key_attributes"])
    assert named <= _attributes()


def test_the_runbook_speaks_of_names_that_exist() -> None:
    """Whatever of our own the runbook has in code type is declared."""
    known = {value.name if isinstance(value, Instrument) else value for value in _DECLARATIONS.values()}
    known |= set(committed()) | set(recorded_labels())
    spoken = set(re.findall(r"`((?:clearspan|shop|otelcol|otel|telemetry|slo)[._:][\w.:]+)`", RUNBOOK.read_text()))
    assert spoken - known - {"slo.yaml"} == set()


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    """Whoever is woken finds what to do, and nothing is described that cannot happen."""
    alerts = {rule.name: rule for rule in rules() if rule.is_alert}
    assert set(re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE)) == set(alerts)
    for name, rule in alerts.items():
        assert rule.annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_every_alert_says_how_urgent_it_is_and_what_it_means() -> None:
    """An alert without these is noise."""
    for rule in rules():
        if rule.is_alert:
            assert rule.labels["severity"] in ("page", "ticket"), rule.name
            assert set(rule.annotations) == {"summary", "description", "runbook_url"}, rule.name


def test_every_alert_has_a_test_for_when_it_fires_and_when_it_does_not() -> None:
    """`promtool test rules` proves both, for each."""
    fires: dict[str, set[bool]] = {}
    for path in (STACK / "prometheus/tests").glob("*.yaml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for one in test.get("alert_rule_test", []):
                fires.setdefault(one["alertname"], set()).add(bool(one.get("exp_alerts")))
    assert fires == {rule.name: {True, False} for rule in rules() if rule.is_alert}


def test_what_is_said_to_be_empty_is_asked_for() -> None:
    """The lists of what has no data in a healthy pipeline have no entry that nobody needs."""
    asked = " ".join(query.expression for query in (*_queries(), *log_queries()))
    assert [pattern for pattern in (*NEVER, *SOMETIMES) if not re.search(pattern, asked)] == []


def test_dashboards_name_no_service() -> None:
    """Each works for any service that uses the kit."""
    services = "orders|inventory|payments|shipping"
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            text = " ".join(target["expr"] for target in panel["targets"]) + panel["title"] + panel["description"]
            assert not re.search(services, text), f"{name}: {panel['title']}"
