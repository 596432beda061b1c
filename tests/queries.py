"""What the stack's files ask of Prometheus and Loki: every expression of dashboards, rules, links and the runbook."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[1]
STACK = ROOT / "observability" / "stack"
RUNBOOK = ROOT / "docs" / "runbook.md"

_GRAFANA = {"$__rate_interval": "5m", "$__range": "1h", "$service": ".+"}


@dataclass(frozen=True)
class Query:
    """A PromQL or LogQL expression, with Grafana's variables replaced, and where it stands."""

    where: str
    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Rule:
    """An alert or a recorded series."""

    where: str
    name: str
    is_alert: bool
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]


@cache
def dashboards() -> dict[str, Any]:
    """Every committed dashboard by the name of its file."""
    return {path.name: json.loads(path.read_text()) for path in sorted((STACK / "grafana/dashboards").glob("*.json"))}


def panels(dashboard: Any) -> Iterator[Any]:
    """Every panel of a dashboard that shows something, also in rows that are folded."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def dashboard_queries() -> list[Query]:
    """The PromQL of every panel."""
    return _panel_queries("prometheus")


def log_queries() -> list[Query]:
    """The LogQL of every panel."""
    return _panel_queries("loki")


def _panel_queries(source: str) -> list[Query]:
    return [
        Query(f"{name}: {panel['title']}", _without_variables(target["expr"]), target.get("legendFormat", ""))
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in panel["targets"]
        if target["datasource"]["uid"] == source
    ]


@cache
def rules() -> list[Rule]:
    """Every rule of Prometheus."""
    return [
        Rule(
            f"{path.name}: {rule.get('alert') or rule['record']}",
            rule.get("alert") or rule["record"],
            "alert" in rule,
            rule["expr"],
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for path in sorted((STACK / "prometheus/rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def rule_queries() -> list[Query]:
    """The PromQL of every rule."""
    return [Query(rule.where, rule.expression) for rule in rules()]


def runbook_queries() -> list[Query]:
    """The PromQL blocks of the runbook."""
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    return [Query(f"runbook.md: {block.strip()}", block) for block in blocks]


def logs_of_trace(trace_id: str) -> str:
    """The LogQL that leads from a trace in Grafana to its log lines."""
    sources = yaml.safe_load((STACK / "grafana/provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (jaeger,) = [source for source in sources if source["uid"] == "jaeger"]
    query: str = jaeger["jsonData"]["tracesToLogsV2"]["query"]
    query = query.replace("$${__trace.traceId}", trace_id)
    assert "$" not in query, f"an unknown variable of Grafana: {query}"
    return query


def mentions(expression: str) -> dict[str, set[str]]:
    """The metrics that an expression reads, each with the labels that it expects of it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    _walk(promql_parser.parse(expression), frozenset(), found)
    return dict(found)


def result_labels(expression: str) -> set[str] | None:
    """The labels that an expression's aggregations leave, or None if it has none of them."""
    found: set[str] = set()
    aggregated = False

    def visit(node: promql_parser.Expr) -> None:
        nonlocal aggregated
        if isinstance(node, promql_parser.AggregateExpr):
            aggregated = True
            found.update(node.modifier.labels if node.modifier else ())

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found if aggregated else None


@cache
def recorded_labels() -> dict[str, set[str]]:
    """The labels of each series that a rule records."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for rule in rules():
        if not rule.is_alert:
            labels[rule.name] |= set(rule.labels) | (result_labels(rule.expression) or set())
    return dict(labels)


def _walk(node: Any, expected: frozenset[str], found: defaultdict[str, set[str]]) -> None:
    match node:
        case promql_parser.VectorSelector():
            assert node.name, f"a metric that is chosen by a pattern: {node}"
            found[node.name] |= expected | {matcher.name for matcher in node.matchers.matchers}
        case promql_parser.MatrixSelector():
            _walk(node.vector_selector, expected, found)
        case promql_parser.AggregateExpr():
            _walk(node.expr, expected | frozenset(node.modifier.labels if node.modifier else ()), found)
        case promql_parser.BinaryExpr():
            on = node.modifier.matching.labels if node.modifier and node.modifier.matching else ()
            _walk(node.lhs, expected | frozenset(on), found)
            # A filter's right side gives no labels to the result: only those that are matched on have to be there.
            right = frozenset(on) if on else expected
            _walk(node.rhs, right, found)
        case promql_parser.Call():
            for argument in node.args:
                _walk(argument, expected, found)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            _walk(node.expr, expected, found)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            pass
        case _:
            raise AssertionError(f"unknown part of PromQL: {type(node).__name__}")


def _without_variables(expression: str) -> str:
    for variable, value in _GRAFANA.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"an unknown variable of Grafana: {expression}"
    return expression


def operands(expression: str) -> list[str]:
    """What an expression compares or combines: without data in one of these, an alert could never fire."""
    return list(dict.fromkeys(_operands(promql_parser.parse(expression))))


def _operands(node: Any) -> Iterator[str]:
    match node:
        case promql_parser.BinaryExpr() if str(node.op) in _FILTERS:
            yield from _operands(node.lhs)
            yield from _operands(node.rhs)
        case promql_parser.ParenExpr():
            yield from _operands(node.expr)
        case promql_parser.Call() if node.func.name == "absent":
            yield from _operands(node.args[0])
        case promql_parser.NumberLiteral():
            pass
        case _:
            yield node.prettify()


_FILTERS = {"and", "or", "unless", "==", "!=", ">", "<", ">=", "<="}
