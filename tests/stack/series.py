"""The names and labels that come out of the real pipeline, of the metrics that the stack's files mention or we declare.

`series.txt` has them, and the default test suite believes it: a metric a line, with its labels. A line that begins with
`?` is of a metric that only appears when something goes wrong; its names are those of the code and of the programs' own
documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

FILE = Path(__file__).with_name("series.txt")

TARGET = {"job", "instance", "service_name", "service_namespace", "service_instance_id", "service_version"} | {
    "deployment_environment_name"
}
"""Labels of the resource that a series comes from, which any series may have."""


@dataclass(frozen=True)
class Series:
    """A metric's name, its own labels, and whether it only appears when something goes wrong."""

    name: str
    labels: frozenset[str]
    seldom: bool = False

    def __str__(self) -> str:
        return f"{'? ' if self.seldom else ''}{self.name}{{{', '.join(sorted(self.labels))}}}"


@cache
def committed() -> dict[str, Series]:
    """What `series.txt` says, by name."""
    found = {}
    for line in FILE.read_text().splitlines():
        match = re.fullmatch(r"(\? )?([\w:]+)\{(.*)\}", line)
        assert match, f"series.txt: {line}"
        seldom, name, labels = match.groups()
        found[name] = Series(name, frozenset(labels.split(", ") if labels else ()), bool(seldom))
    return found


def running(prometheus: str) -> dict[str, Series]:
    """What a running Prometheus has had in the last hour, by name.

    Args:
        prometheus: Its URL.
    """
    labels: dict[str, set[str]] = {}
    answer = httpx.get(f"{prometheus}/api/v1/series", params={"match[]": '{__name__!=""}'}, trust_env=False, timeout=30)
    for series in answer.raise_for_status().json()["data"]:
        labels.setdefault(series["__name__"], set()).update(set(series) - TARGET - {"__name__"})
    return {name: Series(name, frozenset(found)) for name, found in labels.items()}
