"""Holds compose.yaml against the Compose Specification, and has Compose itself read it, as `make check` does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
_SCHEMA = Path(__file__).with_name("compose-spec.json")


def mistakes(path: Path) -> list[str]:
    """What in a file is not as the Compose Specification says."""
    schema = jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text()))
    errors = schema.iter_errors(yaml.safe_load(path.read_text()))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def compose() -> list[str] | None:
    """The command of Compose: what was built for the tests, or else Docker's plugin; None if neither is here."""
    for built in (ROOT / ".stack" / "bin").glob("docker-compose-*"):
        return [str(built)]
    if docker := shutil.which("docker"):
        plugin = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return [docker, "compose"]
    return None


def main() -> int:
    """Check the file; the exit code."""
    found = mistakes(COMPOSE)
    for one in found:
        print(f"compose.yaml: {one}", file=sys.stderr)
    command = compose()
    if command is None:
        print("compose.yaml: not read by Compose, since it is not installed")
        return 1 if found else 0
    # Names alone are looked at, so no secret has to be there.
    environment = {**os.environ, "CLEARSPAN_SECRETS": ".secrets"}
    options = ["--file", str(COMPOSE), "--profile", "*", "config", "--quiet"]
    read = subprocess.run([*command, *options], env=environment, check=False)
    if not found and read.returncode == 0:
        print("compose.yaml: valid by the Compose Specification, and for Compose itself")
    return 1 if found else read.returncode


if __name__ == "__main__":
    sys.exit(main())
