"""The programs of the stack, built from the Go module proxy into `.stack/`, since no image can be had where tests run.

`python -m tests.stack.programs` builds what is not there, of those it is told or of all. Their versions stand here, and
so decide what is tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".stack"

COLLECTOR_VERSION = "0.159.0"

_UNLISTED = "github.com/open-telemetry/opentelemetry-collector-contrib/connector/servicegraphconnector"
"""A module that the public checksum database may have no entry for."""

_COLLECTOR = Path(__file__).with_name("otelcol.yaml")
_SMALL = "--ldflags=-s -w"


class ProgramError(Exception):
    """A program cannot be built; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program: its version as the project itself names it, and how it is built into a file."""

    name: str
    version: str
    build: Callable[[Path, Path], None]
    manifest: Path | None = None
    """What says what it is made of, beside its version."""

    @property
    def path(self) -> Path:
        """Where it is, or will be: a file for each version and manifest."""
        made_of = "" if self.manifest is None else f"-{sha256(self.manifest.read_bytes()).hexdigest()[:8]}"
        return CACHE / "bin" / f"{self.name}-{self.version}{made_of}"


def _collector(folder: Path, target: Path) -> None:
    """The components that the committed configs name, put together by the collector's own builder."""
    _go(folder, "install", f"go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR_VERSION}")
    _run(folder, str(folder / "builder"), "--config", str(_COLLECTOR), _SMALL)
    (folder / "otelcol" / "otelcol").rename(target)


def _module(
    package: str, module_version: str, *flags: str, replace: Sequence[str] = ()
) -> Callable[[Path, Path], None]:
    """A main package of a module that `go install` refuses for its replace directives: built from a module of ours.

    `replace` is those of them that it needs: Go takes them of the main module alone.
    """

    def build(folder: Path, target: Path) -> None:
        _go(folder, "mod", "init", "stack")
        for one in replace:
            _go(folder, "mod", "edit", f"-replace={one}")
        _go(folder, "get", f"{package}@{module_version}")
        _go(folder, "build", *flags, _SMALL, "-o", str(target), package)

    return build


def _installed(package: str, module_version: str) -> Callable[[Path, Path], None]:
    def build(folder: Path, target: Path) -> None:
        _go(folder, "install", _SMALL, f"{package}@{module_version}")
        (built,) = folder.iterdir()
        built.rename(target)

    return build


# Prometheus finds its targets in its config only: what looks into clouds for them takes most of the build.
_PROMETHEUS = ("v0.316.0", "-tags=remove_all_sd")

# Grafana's forks, without which Loki is not compiled or is another one than the released.
_LOKI_FORKS = (
    "github.com/hashicorp/memberlist=github.com/grafana/memberlist@v0.3.1-0.20251126142931-6f9f62ab6f86",
    "github.com/grafana/regexp=github.com/grafana/regexp@v0.0.0-20240518133315-a468a5bfb3bc",
    "github.com/thanos-io/objstore=github.com/grafana/objstore@v0.0.0-20250728171719-b5d3b766d1b0",
)

PROGRAMS = {
    program.name: program
    for program in (
        Program("otelcol", COLLECTOR_VERSION, _collector, _COLLECTOR),
        Program("prometheus", "3.16.0", _module("github.com/prometheus/prometheus/cmd/prometheus", *_PROMETHEUS)),
        Program("promtool", "3.16.0", _module("github.com/prometheus/prometheus/cmd/promtool", *_PROMETHEUS)),
        # Version 2 is tagged as a version 1 too, which alone can be named as a Go module.
        Program("jaeger", "2.13.0", _module("github.com/jaegertracing/jaeger/cmd/jaeger", "v1.76.0")),
        Program("loki", "3.7.8", _module("github.com/grafana/loki/v3/cmd/loki", "v3.7.8", replace=_LOKI_FORKS)),
        Program("docker-compose", "5.2.0", _module("github.com/docker/compose/v5/cmd", "v5.2.0")),
        Program("kustomize", "5.8.2", _installed("sigs.k8s.io/kustomize/kustomize/v5", "v5.8.2")),
    )
}


def program(name: str) -> Path:
    """The file of a program, which is built if it is not there.

    Raises:
        ProgramError: It cannot be built.
    """
    found = PROGRAMS[name]
    if not found.path.exists():
        if shutil.which("go") is None:
            raise ProgramError(f"{name} is built from its source, and for that Go is needed: https://go.dev/dl")
        folder = CACHE / "build" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found.path.parent.mkdir(exist_ok=True)
        # Under another name until it is whole: a build that was broken off leaves nothing that looks done.
        target = found.path.with_name(f"{name}.{os.getpid()}")
        found.build(folder, target)
        target.rename(found.path)
        shutil.rmtree(folder)
    return found.path


def _go(folder: Path, *arguments: str) -> None:
    _run(folder, "go", *arguments)


def _run(folder: Path, *command: str) -> None:
    # An older Go brings the one that a program needs.
    go = {"GOTOOLCHAIN": "auto", "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false", "GONOSUMDB": _UNLISTED}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **go},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProgramError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")


def main(names: Sequence[str]) -> None:
    """Build those of these names, or all of them, and say how long each took."""
    for name in names or PROGRAMS:
        one = PROGRAMS[name]
        if one.path.exists():
            continue
        print(f"building {name} {one.version} ...", end=" ", flush=True)  # noqa: T201 - it takes minutes
        start = time.monotonic()
        try:
            program(name)
        except ProgramError as error:
            sys.exit(f"\n{error}")
        print(f"{time.monotonic() - start:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
