"""The files of observability/stack whose programs cannot be had here: well formed, and in agreement with each other."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

STACK = Path(__file__).parents[1] / "observability/stack"


def _files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(STACK)) for path in STACK.rglob(pattern))


@pytest.mark.parametrize("name", [*_files("*.yaml"), *_files("*.yml")])
def test_yaml(name: str) -> None:
    """A file that ends in .yaml is YAML, and says something."""
    assert yaml.safe_load((STACK / name).read_text())


@pytest.mark.parametrize("name", _files("*.json"))
def test_json(name: str) -> None:
    """A file that ends in .json is JSON, and says something."""
    assert json.loads((STACK / name).read_text())


@pytest.mark.parametrize("name", _files("*.sh"))
def test_scripts(name: str) -> None:
    """A script is one, and ends at the first command that fails."""
    subprocess.run(["bash", "-n", STACK / name], check=True)
    assert "\nset -euo pipefail\n" in (STACK / name).read_text()


def _sources() -> dict[str, dict[str, Any]]:
    text = (STACK / "grafana/provisioning/datasources/datasources.yaml").read_text()
    return {source["uid"]: source for source in yaml.safe_load(text)["datasources"]}


def test_sources() -> None:
    """Each of the three sources leads to another one that is there."""
    leads = {
        uid: set(re.findall(r'"datasourceUid": "(\w+)"', json.dumps(source["jsonData"])))
        for uid, source in _sources().items()
    }
    assert leads == {"prometheus": {"jaeger"}, "jaeger": {"loki", "prometheus"}, "loki": {"jaeger"}}


def test_variables_of_sources() -> None:
    """Grafana's own variables are not taken for ones of its environment."""
    text = (STACK / "grafana/provisioning/datasources/datasources.yaml").read_text()
    values = json.dumps(yaml.safe_load(text))
    assert re.findall(r"\$+\{?__", values)
    assert all(found.startswith("$$") for found in re.findall(r"\$+\{?__", values))


def test_elastic_logs() -> None:
    """Logstash writes where Elasticsearch keeps logs and lets it write, and where Kibana looks."""
    pipeline = (STACK / "logstash/pipeline.conf").read_text()
    parts = dict(re.findall(r'data_stream_(\w+) => "(\w+)"', pipeline))
    stream = f"{parts['type']}-{parts['dataset']}-{parts['namespace']}"
    template = json.loads((STACK / "elasticsearch/logs-template.json").read_text())
    setup = (STACK / "elasticsearch/setup.sh").read_text()
    view = json.loads((STACK / "kibana/data-view.json").read_text())["data_view"]
    allowed = re.findall(r'"names": \["([^"]+)"\]', setup)
    for pattern in [*template["index_patterns"], *allowed, view["title"]]:
        assert fnmatch.fnmatch(stream, pattern)
    assert view["timeFieldName"] in template["template"]["mappings"]["properties"]
    user = re.findall(r'user => "(\w+)"', pipeline)[0]
    assert f"/_security/user/{user}" in setup


def test_elastic_documents() -> None:
    """Each field that Logstash sets has a type."""
    mapped = json.loads((STACK / "elasticsearch/logs-template.json").read_text())["template"]["mappings"]["properties"]
    for name in re.findall(r'^    "(.+?)" =>', (STACK / "logstash/record.rb").read_text(), re.MULTILINE):
        field: dict[str, Any] = {"properties": mapped}
        for part in re.findall(r"\w+", name):
            field = field["properties"][part]
        assert field["type"]
