"""How every dashboard looks: its panels, its colours, its links, its variable.

Red is what failed, orange what may fail soon or was repaired, green what went well; everything else has the colour of
its name, so that a service has one colour on all panels.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import logs as logs_builders
from grafana_foundation_sdk.builders import loki, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Colour = Literal["red", "orange", "green", "blue"]

SERVICE = 'service_name=~"$service"'
"""The matcher of the services that are chosen."""

TAG = "clearspan"

_PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="prometheus")
_LOKI = common.DataSourceRef(type_val="loki", uid="loki")

PanelBuilder = Builder[dashboard.Panel]


@dataclass(frozen=True)
class Query:
    """A PromQL expression, what its series are called, and their colour if it means something."""

    expression: str
    legend: str
    colour: Colour | None = None
    exemplars: bool = False


def rate(series: str, *by: str) -> str:
    """What a counter's or histogram's series have gained a second, summed by labels."""
    grouping = f" by ({', '.join(by)}) " if by else ""
    return f"sum{grouping}(rate({series}[$__rate_interval]))"


def share(part: str, whole: str, *by: str) -> str:
    """What share of a counter's series some of them are, by labels: 0 and not NaN where nothing happens."""
    return f"{rate(part, *by)} / ({rate(whole, *by)} > 0) or 0 * {rate(whole, *by)}"


def quantile(share: float, histogram: str, *by: str, matchers: str = SERVICE) -> str:
    """A quantile of a classic histogram, by labels."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket{{{matchers}}}', 'le', *by)})"


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    most: float | None = None,
    stacked: bool = False,
) -> PanelBuilder:
    """Lines over time, from zero; a click on one leads to the traces of its service."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .datasource(_PROMETHEUS)
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .data_links([_traces_of("${__field.labels.service_name}")])
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    for query, ref_id in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(_range(query, ref_id))
        if query.colour:
            panel.override_by_query(ref_id, [_shades(query.colour)])
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    warn: float | None = None,
    bad: float | None = None,
    width: int = 4,
) -> PanelBuilder:
    """One number and how it came to be; orange from `warn` on, red from `bad` on."""
    steps = [dashboard.Threshold(value=None, color="green" if warn or bad else "blue")]
    steps += [dashboard.Threshold(value=warn, color="orange")] if warn is not None else []
    steps += [dashboard.Threshold(value=bad, color="red")] if bad is not None else []
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .height(4)
        .span(width)
        .datasource(_PROMETHEUS)
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .no_value("none")
        .thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_range(Query(expression, title), "A"))
    )


def states(
    title: str, description: str, expression: str, legend: str, names: dict[int, tuple[str, Colour]]
) -> PanelBuilder:
    """What state something was in, over time."""
    mapping = dashboard.ValueMap(
        options={
            str(value): dashboard.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(names.items())
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .unit("none")
        .height(8)
        .span(24)
        .datasource(_PROMETHEUS)
        .mappings([mapping])
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .line_width(0)
        .fill_opacity(80)
        .data_links([_traces_of("${__field.labels.service_name}")])
        .with_target(_range(Query(expression, legend), "A"))
    )


def rows_of(title: str, description: str, keys: list[str], columns: dict[str, tuple[str, str]]) -> PanelBuilder:
    """A table with a row for each combination of labels, and a column (unit, expression) for each query."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .unit("short")
        .height(10)
        .span(24)
        .datasource(_PROMETHEUS)
        .data_links([_traces_of("${__data.fields.service_name}")])
    )
    names: dict[str, str] = {}
    for (heading, (unit, expression)), ref_id in zip(columns.items(), "ABCDEFGH", strict=False):
        panel.with_target(
            prometheus.Dataquery()
            .expr(expression)
            .instant()
            .format(PromQueryFormat.TABLE)
            .ref_id(ref_id)
            .datasource(_PROMETHEUS)
        )
        names[f"Value #{ref_id}"] = heading
        panel.override_by_name(heading, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: index for index, name in enumerate([*keys, *names])},
                "renameByName": names,
            },
        )
    )
    return panel.sort_by([common_builders.TableSortByFieldState().display_name(next(iter(columns))).desc(True)])


def log_lines(title: str, description: str, expression: str) -> PanelBuilder:
    """Log lines, the newest first; each leads to its trace."""
    return (
        logs_builders.Panel()
        .title(title)
        .description(description)
        .unit("none")
        .height(10)
        .span(24)
        .datasource(_LOKI)
        .show_time(True)
        .enable_log_details(True)
        .sort_order(common.LogsSortOrder.DESCENDING)
        .with_target(loki.Dataquery().expr(expression).ref_id("A").datasource(_LOKI))
    )


def page(title: str, uid: str, description: str, rows: dict[str, list[PanelBuilder]]) -> builders.Dashboard:
    """A dashboard of rows of panels, for the services that are chosen."""
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            _Link("Dashboards")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
            .as_dropdown(False)
        )
        .link(_traces_of(None).icon("external link"))
        .with_variable(
            builders.QueryVariable("service")
            .label("Service")
            .description("Every service that uses the kit and has told something in the time shown.")
            .datasource(_PROMETHEUS)
            .query({"qryType": 1, "query": f"label_values({_EVERY_SERVICE}, service_name)", "refId": "service"})
            .definition(f"label_values({_EVERY_SERVICE}, service_name)")
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".+")
            .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
    )
    for heading, panels in rows.items():
        made.with_row(builders.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return made


_EVERY_SERVICE = "clearspan_event_loop_tasks"


class _Link(builders.DashboardLink):
    """A link beside the title; the builder can make only those in the menu that is folded."""

    def build(self) -> dashboard.DashboardLink:
        built = super().build()
        built.placement = None  # type: ignore[assignment]  # Grafana's schema has it optional
        return built


def _range(query: Query, ref_id: str) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend)
        .range()
        .ref_id(ref_id)
        .datasource(_PROMETHEUS)
    )
    return target.exemplar(True) if query.exemplars else target


def _shades(colour: Colour) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val="color", value={"mode": "shades", "fixedColor": colour})


def _traces_of(service: str | None) -> builders.DashboardLink:
    """Jaeger's search in Grafana's Explore, for the time shown; of a service, if one is given."""
    panes = {
        "traces": {
            "datasource": "jaeger",
            "queries": [
                {"refId": "A", "datasource": {"type": "jaeger", "uid": "jaeger"}, "queryType": "search"}
                | ({"service": service} if service else {})
            ],
            "range": {"from": "${__from}", "to": "${__to}"},
        }
    }
    # Grafana's variables stay as they are.
    encoded = re.sub(r"%24%7B(.+?)%7D", r"${\1}", quote(json.dumps(panes, separators=(",", ":")), safe=""))
    return (
        _Link("Traces")
        .type(dashboard.DashboardLinkType.LINK)
        .url(f"/explore?schemaVersion=1&orgId=1&panes={encoded}")
        .target_blank(True)
    )
