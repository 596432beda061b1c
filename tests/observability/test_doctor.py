from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from observability import doctor
from observability.doctor import instrumentations, unreachable, variables
from tests.observability.viewer.process import command, free_ports

GOES = [f"{signal} go to http://localhost:4318 by http/protobuf" for signal in ("traces", "metrics", "logs")]


def _doctor(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "observability.cli", "doctor", "--url", url],
        env={**{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}, **variables},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_defaults() -> None:
    """Without a variable all signals go where a collector or the viewer listens."""
    assert [(one.mark, one.what) for one in variables({})] == [("ok", goes) for goes in GOES]


@pytest.mark.parametrize(
    ("environ", "mark", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPONT": "http://x"}, "wrong", "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?"),
        ({"OTEL_OF_ANOTHER_KIND": "1"}, "note", "does not read it"),
        ({"OTEL_SDK_DISABLED": "true"}, "wrong", "nothing is told"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "wrong", "no trace begins here"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, "note", "of all traces 0.1"),
        ({"OTEL_LOGS_EXPORTER": "none"}, "note", "logs are not sent"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "wrong", "4317 is the usual port of grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "wrong", "http/protobuf and grpc are supported"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "ok", "traces go to http://localhost:4317 by grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "wrong", "has to begin with http://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:x"}, "wrong", "is not a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h/v1/logs"}, "wrong", "/v1/logs is added to OTEL_EXPORTER_OTLP_END"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://h/v1/logs"}, "ok", "logs go to http://h/v1/logs"),
    ],
)
def test_variables(environ: dict[str, str], mark: str, said: str) -> None:
    """What is likely to be a mistake is named, with what to do; what is meant is told."""
    assert [one for one in variables(environ) if one.mark == mark and said in f"{one.what} {one.advice}"]


def test_secrets() -> None:
    """A password in an endpoint is not shown, nor is any header."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:canary@localhost:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary",
    }
    assert "canary" not in str(list(variables(environ)))
    assert "canary" not in str(
        list(unreachable(environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:canary@127.0.0.1:1"}))
    )


def test_no_url() -> None:
    """Nothing is sent to what is no URL."""
    assert [one.what for one in unreachable({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:x"})] == ["nothing was sent"]


def test_instrumentations() -> None:
    """Those that the kit turns on are there."""
    found = instrumentations()
    assert found.mark == "ok"
    assert "fastapi, httpx" in found.what


def test_nobody_there() -> None:
    """An endpoint that nobody listens at is named, and ends with a failure."""
    port, _ = free_ports()
    result = _doctor("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
    assert f"wrong  nobody answers at 127.0.0.1:{port} (Connection refused)" in result.stdout
    assert (result.returncode, result.stderr) == (1, "")


def test_viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The span that it sends is found in the viewer; pages that are taken for a receiver are found out."""
    port, otlp_port = free_ports()
    viewer = subprocess.Popen(command(port, otlp_port, tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        assert viewer.stdout is not None
        viewer.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        result = _doctor(url, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{otlp_port}")
        *_, last = result.stdout.splitlines()
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        assert last.startswith(f"ok     the span is in the viewer: {url}/trace/")
        found = httpx.get(f"{url}/api/traces/{last.rpartition('/')[2]}", trust_env=False).json()["data"][0]
        assert [span["operationName"] for span in found["spans"]] == ["clearspan doctor"]
        result = _doctor(url, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert result.returncode == 1
        assert "no receiver of OTLP" in result.stdout
        monkeypatch.setattr(doctor, "_FIND_TIMEOUT_S", 0.5)
        assert doctor._found(url, None, "1" * 32).what == f"the viewer at {url} has no trace {'1' * 32}"
    finally:
        viewer.kill()
        viewer.communicate()
