"""Loki with its committed config, and what Grafana and Docker Compose expect of it."""

from __future__ import annotations

import re
import secrets
import subprocess
import time
from typing import Any

import httpx
import pytest
import yaml

from tests.ports import free_ports
from tests.prometheus_names import label_name
from tests.queries import STACK, logs_of_trace
from tests.running_shop import ROOT
from tests.stack.conftest import ObservedShop
from tests.stack.log_lines import Line, lines
from tests.stack.otlp import send_log
from tests.stack.programs import program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

CONFIG: dict[str, Any] = yaml.safe_load((STACK / "loki/config.yaml").read_text())


def _arrived(one: ObservedShop, expression: str) -> list[Line]:
    """The lines that an expression finds, as soon as there are any."""
    deadline = time.monotonic() + 60
    while not (found := lines(one.stack.loki, expression)):
        assert time.monotonic() < deadline, f"no lines in time: {expression}"
        time.sleep(0.3)
    return found


def test_line_leads_to_its_trace(observed: ObservedShop) -> None:
    """Each link that Grafana makes of a log line has the id of the line's trace."""
    trace_id = secrets.token_hex(16)
    send_log(observed.stack.otlp, "linked", "here", trace_id)
    (line,) = _arrived(observed, logs_of_trace(trace_id))
    sources = yaml.safe_load((STACK / "grafana/provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (fields,) = [source["jsonData"]["derivedFields"] for source in sources if source["uid"] == "loki"]
    for field in fields:
        assert field["matcherType"] == "label"
        (value,) = [value for name, value in line.labels.items() if re.search(field["matcherRegex"], name)]
        assert field["url"].replace("$${__value.raw}", value).rpartition("/")[2] == trace_id


def test_labels(observed: ObservedShop) -> None:
    """What the config names becomes a label; nothing else does, so that few streams are made."""
    send_log(observed.stack.otlp, "labelled", "here", colour="red")
    (line,) = _arrived(observed, '{service_name="labelled"}')
    assert line.labels["colour"] == "red"
    assert "service_instance_id" in _arrived(observed, '{service_name="orders"}')[0].labels
    (chosen,) = CONFIG["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
    url = f"{observed.stack.loki}/loki/api/v1/labels"
    labels = httpx.get(url, params={"since": "1h"}, trust_env=False).raise_for_status().json()["data"]
    assert {"service_name"} <= set(labels) <= {label_name(attribute) for attribute in chosen["attributes"]}


def test_too_long(observed: ObservedShop) -> None:
    """A line longer than Loki keeps is cut, not refused."""
    send_log(observed.stack.otlp, "talkative", "x" * 200_000)
    (line,) = _arrived(observed, '{service_name="talkative"}')
    assert line.text == "x" * 64 * 1024


def test_health(observed: ObservedShop) -> None:
    """The program knows what compose.yaml asks it, and says only of one that is there that it is well."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    kind, _, *options = compose["services"]["loki"]["healthcheck"]["test"]
    assert kind == "CMD"
    (free,) = free_ports(1)
    for port, code in ((observed.stack.ports.loki, 0), (free, 1)):
        at = f"-health.url=http://localhost:{port}/ready"
        done = subprocess.run([program("loki"), *options, at], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == code, done.stderr
    # Where it asks by itself.
    assert CONFIG["server"]["http_listen_port"] == 3100
