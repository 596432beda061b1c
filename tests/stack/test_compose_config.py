"""Docker Compose itself reads compose.yaml."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy import passwords
from tests.stack.programs import program

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with compose.yaml and nothing else."""
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    return tmp_path


def _config(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str | Path] = [program("docker-compose"), *options, "config", "--format", "json"]
    return subprocess.run(command, cwd=project, env={}, capture_output=True, text=True, check=False)


def _services(project: Path, *options: str) -> dict[str, Any]:
    done = _config(project, *options)
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_without_secrets(project: Path) -> None:
    """Nothing starts without the secrets, and who tries is told how to make them."""
    done = _config(project)
    assert done.returncode != 0
    assert "run `make secrets` first" in done.stderr


def test_profiles(project: Path) -> None:
    """By default there is no Elastic and no load; each profile adds its own."""
    passwords.make(project)
    usual = _services(project).keys()
    assert {"orders", "collector", "jaeger", "prometheus", "grafana", "loki"} <= usual
    assert _services(project, "--profile", "load").keys() - usual == {"load"}
    elastic = {"elasticsearch", "elasticsearch-setup", "kibana", "kibana-setup", "logstash"}
    assert _services(project, "--profile", "elk").keys() - usual == elastic


def test_read_as_meant(project: Path) -> None:
    """What the file says of ports, networks and scripts is what Compose understands."""
    passwords.make(project)
    services = _services(project, "--profile", "*")
    published = {port["host_ip"] for service in services.values() for port in service.get("ports", [])}
    assert published == {"127.0.0.1"}
    assert services["postgresql"]["networks"].keys() == {"data"}
    assert services["logstash"]["entrypoint"][-1].startswith('export LOGSTASH_PASSWORD="$$(<')
    assert services["orders"]["secrets"][0] == {"source": "orders-database-url", "target": "DATABASE_URL"}
