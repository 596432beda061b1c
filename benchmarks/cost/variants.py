"""The variants: where each runs, with what environment, and what it has to send for the comparison to be one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALL_TIMEOUT_S = 300

_ASK = """
import json, platform
from importlib.metadata import distributions
print(json.dumps({"python": platform.python_version()} | {one.name: one.version for one in distributions()}))
"""


class MissingPeerError(Exception):
    """A peer's environment cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve the application, or to call."""

    name: str
    """As it is told, and as it is chosen."""

    module: str
    """In `benchmarks.variants`."""

    spans: int = 1
    """Spans of a request that has no steps; a call has one wherever calls are observed."""

    logs: int = 1
    """Log records of a request."""

    metrics: bool = True
    """Whether it sends metrics."""

    calls: bool = False
    """Whether it observes calls too."""

    peer: str | None = None
    """The environment in `benchmarks/peers` that it runs in, if it is not this project's."""

    environment: dict[str, str] = field(default_factory=dict)

    def python(self) -> Path:
        """The interpreter, whose environment is made first where it is not there.

        Raises:
            MissingPeerError: It cannot be made.
        """
        if self.peer is None:
            return Path(sys.executable)
        folder = ROOT / "benchmarks" / "peers" / self.peer
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        command = [uv, "sync", "--locked", "--quiet", "--compile-bytecode", "--python", sys.executable]
        try:
            done = subprocess.run(
                [*command, "--project", str(folder)],
                capture_output=True,
                text=True,
                check=False,
                timeout=INSTALL_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingPeerError(f"{self.peer} cannot be installed: {error}") from error
        if done.returncode:
            raise MissingPeerError(f"{self.peer} cannot be installed: {done.stderr.strip()[-300:]}")
        return folder / ".venv" / "bin" / "python"

    def versions(self) -> dict[str, str]:
        """The versions of Python and of all packages in its environment."""
        told = subprocess.run([self.python(), "-c", _ASK], capture_output=True, text=True, check=True)
        versions: dict[str, str] = json.loads(told.stdout)
        return versions


_DATADOG = {
    "DD_SERVICE": "shop",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",  # this one's own, which would go out to its makers
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}

BARE = Variant("bare", "bare", spans=0, logs=0, metrics=False, calls=True)
VARIANTS = (
    BARE,
    Variant("contrib", "contrib", spans=3, calls=True),
    Variant("contrib-tuned", "contrib_tuned"),
    Variant("fastapi-native", "native", spans=4),
    # A log line is a span of its own there.
    Variant("logfire", "logfire", spans=2, logs=0, calls=True, peer="logfire"),
    Variant("ddtrace", "ddtrace", spans=2, logs=0, metrics=False, calls=True, peer="ddtrace", environment=_DATADOG),
    # It writes a line of each request too.
    Variant("clearspan-fastpath-off", "clearspan", logs=2, calls=True, environment={"CLEARSPAN_FASTPATH": "off"}),
    Variant("clearspan", "clearspan", logs=2, calls=True),
    Variant("clearspan-one-line", "clearspan", environment={"REQUEST_LINE": "off"}),
)
QUICK = ("bare", "contrib", "clearspan")
