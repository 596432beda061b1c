"""Write the JSON of every dashboard to where Grafana finds it."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards import calls, events, pipeline, services

FOLDER = Path(__file__).parents[2] / "observability" / "stack" / "grafana" / "dashboards"


def dashboards() -> dict[str, str]:
    """Every dashboard's JSON by the name of its file."""
    return {
        "services.json": _json(services.dashboard()),
        "calls.json": _json(calls.dashboard()),
        "events.json": _json(events.dashboard()),
        "pipeline.json": _json(pipeline.dashboard()),
    }


def _json(dashboard: Dashboard) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard.build()) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text)
