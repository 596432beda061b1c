"""What a project says of itself in the `[tool.clearspan]` tables of its pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path


class ProjectError(Exception):
    """A project's pyproject.toml cannot be read; the message says what to do."""


def read_table(pyproject: Path, name: str) -> object:
    """What stands at `tool.clearspan.NAME`, or None.

    Raises:
        ProjectError: The file is not there, or not TOML.
    """
    try:
        return tomllib.loads(pyproject.read_text()).get("tool", {}).get("clearspan", {}).get(name)
    except FileNotFoundError:
        raise ProjectError(f"there is no {pyproject} here: run this in the project's folder") from None
    except (OSError, ValueError) as error:
        raise ProjectError(f"{pyproject} cannot be read: {error}") from error
