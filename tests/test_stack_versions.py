"""What the tests run is what people run."""

from __future__ import annotations

import re

import pytest

from tests.running_shop import ROOT
from tests.stack.programs import PROGRAMS

IMAGES = {
    "otelcol": "opentelemetry-collector-contrib",
    "jaeger": "jaegertracing/jaeger",
    "prometheus": "prometheus/prometheus",
    "loki": "grafana/loki",
}
FILES = [ROOT / "compose.yaml", *(ROOT / "deploy" / "kubernetes").rglob("*.yaml")]


@pytest.mark.parametrize("program", IMAGES)
def test_images_are_of_the_versions_that_are_tested(program: str) -> None:
    """Each image of a program that `make test-stack` builds is of the version that it builds."""
    pattern = re.compile(rf"image: \S*{re.escape(IMAGES[program])}:v?(\S+)")
    found = {version for path in FILES for version in pattern.findall(path.read_text())}
    assert found == {PROGRAMS[program].version}
