"""What Jaeger's pages are told about: observability/stack/jaeger/ui.json."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

from tests.queries import logs_of_trace
from tests.running_shop import ROOT

UI = ROOT / "observability" / "stack" / "jaeger" / "ui.json"


def test_link_asks_grafana_for_the_logs_of_the_trace() -> None:
    """A trace's page links to its log lines, from its start until shortly after its end."""
    (pattern,) = json.loads(UI.read_text())["linkPatterns"]
    values = {"traceID": "0af7", "startTime": "START", "endTime": "END"}
    url = re.sub(r"#\{(\w+)[^}]*\}", lambda found: values[found[1]], pattern["url"])

    (pane,) = json.loads(parse_qs(urlsplit(url).query)["panes"][0]).values()

    assert pattern["type"] == "traces"
    assert pane["datasource"] == "loki"
    assert pane["queries"][0]["expr"] == logs_of_trace("0af7")
    assert pane["range"] == {"from": "START", "to": "END"}
