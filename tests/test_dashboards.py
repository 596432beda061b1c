"""The committed dashboards are what their sources make, and each panel says what it shows and what to do."""

from __future__ import annotations

import json
import re

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.__main__ import FOLDER
from deploy.dashboards.__main__ import dashboards as made
from tests.queries import dashboards, panels


def test_committed_dashboards_are_what_their_sources_make() -> None:
    """`python -m deploy.dashboards` would change nothing."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made()


def test_dashboards_are_of_grafanas_types() -> None:
    """Grafana's own types for dashboards read each file, and write it again as it is."""
    register_default_plugins()
    for name, text in made().items():
        again = JSONEncoder(sort_keys=True, indent=2).encode(Dashboard.from_json(json.loads(text)))
        # The types know only one place for links, and write it where it was left out.
        again = re.sub(r'\n *"placement": "inControlsMenu",', "", again)
        assert f"{again}\n" == text, name


def test_every_dashboard_has_what_links_and_people_rely_on() -> None:
    """A fixed uid, the time of whoever looks, a refresh, and the choice of services."""
    for name, dashboard in dashboards().items():
        assert dashboard["uid"] == f"clearspan-{name.removesuffix('.json')}"
        assert (dashboard["timezone"], dashboard["refresh"]) == ("browser", "10s")
        assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["service"]
        assert {link["type"] for link in dashboard["links"]} == {"dashboards", "link"}


def test_every_panel_says_what_it_shows_in_which_unit_from_where() -> None:
    """No panel without title, description and unit; no query without data source and legend."""
    sources = {"prometheus", "loki"}
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            where = f"{name}: {panel['title']}"
            assert panel["description"].endswith("."), where
            assert panel["fieldConfig"]["defaults"]["unit"], where
            assert panel["targets"], where
            for target in panel["targets"]:
                assert target["datasource"]["uid"] in sources, where
                if panel["type"] == "timeseries":
                    assert target["legendFormat"], where


def test_panels_do_not_overlap() -> None:
    """They lie beside and below each other, within the 24 columns of the grid."""
    for name, dashboard in dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{name}: {panel['title']}"
            assert place["x"] + place["w"] <= 24, f"{name}: {panel['title']}"
            taken |= cells


def test_rates_keep_step_with_the_resolution() -> None:
    """A panel's rate goes over as much as Grafana says, so that it never falls between two reports."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                ranges = set(re.findall(r"\[([^\]]+)\]", target["expr"])) if panel["type"] != "logs" else set()
                assert ranges <= {"$__rate_interval", "$__range"}, f"{name}: {panel['title']}"
