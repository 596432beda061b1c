"""Renders the overlays and holds them against the schemas of Kubernetes' and the Gateway API, as `make check` does.

Nothing that an object may not have is let pass, so that a misspelt field is found before a cluster ignores it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("dev", "production")
KUBERNETES = "1.37"
_GATEWAY_API = Path(__file__).with_name("schemas") / "gateway-api-1.7.0.json"

Manifest = dict[str, Any]


def renderer() -> list[str] | None:
    """The command that renders a folder: kustomize, or else kubectl, which has it built in; None if neither is here."""
    for built in (ROOT / ".stack" / "bin").glob("kustomize-*"):
        return [str(built), "build"]
    for program, argument in (("kustomize", "build"), ("kubectl", "kustomize")):
        if found := shutil.which(program):
            return [found, argument]
    return None


def render(command: list[str], overlay: str) -> list[Manifest]:
    """The objects of an overlay.

    Raises:
        subprocess.CalledProcessError: It cannot be rendered; what is wrong stands on stderr.
    """
    folder = Path(__file__).parent / "overlays" / overlay
    output = subprocess.run([*command, str(folder)], stdout=subprocess.PIPE, check=True).stdout
    return list(yaml.safe_load_all(output))


def mistakes(manifest: Manifest) -> list[str]:
    """What the API server would say against an object."""
    try:
        if manifest["apiVersion"].startswith("gateway.networking.k8s.io/"):
            schemas = json.loads(_GATEWAY_API.read_text())
            jsonschema.validate(manifest, {**schemas, "$ref": f"#/$defs/{manifest['kind']}"})
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        where = ".".join(map(str, getattr(error, "absolute_path", ())))
        return [f"{manifest['kind']} {manifest['metadata']['name']}: {where}: {error.message}"]
    return []


def main() -> int:
    """Check all overlays; the exit code."""
    command = renderer()
    if command is None:
        print("deploy/kubernetes: not checked, since neither kustomize nor kubectl is installed")
        return 0
    manifests = {overlay: render(command, overlay) for overlay in OVERLAYS}
    found = [
        f"{overlay}: {one}" for overlay in OVERLAYS for manifest in manifests[overlay] for one in mistakes(manifest)
    ]
    for one in found:
        print(f"deploy/kubernetes/overlays/{one}", file=sys.stderr)
    if not found:
        counts = " and ".join(f"{len(manifests[overlay])} of {overlay}" for overlay in OVERLAYS)
        print(f"deploy/kubernetes: objects are valid for Kubernetes {KUBERNETES}: {counts}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
