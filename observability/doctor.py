"""Why is there no data? The variables read as a service reads them, telemetry sent as it sends it, and looked for."""

from __future__ import annotations

import difflib
import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distributions, entry_points
from typing import Literal
from urllib.parse import urlsplit

import httpx
from opentelemetry.trace import format_trace_id

from observability.logs import RootHandler
from observability.providers import Telemetry, TelemetryError
from observability.scrub import scrub_text, scrub_url

SERVICE = "clearspan-doctor"

_SIGNALS = ("traces", "metrics", "logs")
_PORTS = {4317: "grpc", 4318: "http/protobuf"}
_FREE_NAMES = re.compile(r"OTEL_(PYTHON|INSTRUMENTATION)_")
"""Variables of instrumentations, which no list has."""
_CONNECT_TIMEOUT_S, _SEND_TIMEOUT_S, _FIND_TIMEOUT_S = 2.0, 8.0, 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    mark: Literal["ok", "note", "wrong"]
    what: str
    advice: str = ""


def examine(environ: Mapping[str, str], viewer_url: str, token: str | None = None) -> Iterator[Finding]:
    """All findings, the cheapest to look for first.

    Args:
        environ: Variables of the process.
        viewer_url: Where the pages of a viewer may be.
        token: What the viewer asks for, if it listens beyond the loopback.
    """
    yield from variables(environ)
    yield instrumentations()
    unheard = list(unreachable(environ))
    yield from unheard or sent_and_found(viewer_url, token)


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What the `OTEL_*` variables ask for, and what in them is likely to be a mistake."""
    known = _known_variables()
    for name in sorted(name for name in environ if name.startswith("OTEL_") and environ[name]):
        if name not in known and not _FREE_NAMES.match(name):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            advice = f"did you mean {near[0]}?" if near else "OpenTelemetry for Python does not read it"
            yield Finding("wrong" if near else "note", f"{name} is set", advice)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("wrong", "OTEL_SDK_DISABLED=true", "nothing is told: unset it")
        return
    yield from _sampler(environ)
    yield from (_endpoint(signal, environ) for signal in _otlp_signals(environ))
    for signal in _SIGNALS:
        if signal not in _otlp_signals(environ):
            name = f"OTEL_{signal.upper()}_EXPORTER"
            yield Finding("note", f"{signal} are not sent: {name}={environ[name]}", "otlp sends them")


def instrumentations() -> Finding:
    """Which official instrumentations are installed; the kit turns on those of FastAPI and httpx itself."""
    prefix = "opentelemetry-instrumentation-"
    found = {one.name.removeprefix(prefix) for one in distributions() if one.name.startswith(prefix)}
    for needed in ("fastapi", "httpx"):
        if needed not in found:
            return Finding("wrong", f"{prefix}{needed} is not installed", f"install {prefix}{needed}")
    return Finding("ok", f"instrumentations are installed for {', '.join(sorted(found))}")


def unreachable(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The endpoints that nobody listens at."""
    addresses = {_address(signal, environ) for signal in _otlp_signals(environ)}
    if None in addresses:
        yield Finding("wrong", "nothing was sent", "correct the endpoint first")
    for host, port in sorted(address for address in addresses if address is not None):
        try:
            socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
        except OSError as error:
            advice = "start a collector or `clearspan viewer` there, or set OTEL_EXPORTER_OTLP_ENDPOINT"
            yield Finding("wrong", f"nobody answers at {host}:{port} ({error.strerror or error})", advice)


def sent_and_found(viewer_url: str, token: str | None = None) -> Iterator[Finding]:
    """Send a span and a log line, as the variables say, and look for the span in the viewer."""
    try:
        telemetry = Telemetry.from_environment(SERVICE)
    except TelemetryError as error:
        yield Finding("wrong", "a service would not start", str(error))
        return
    complaints = _Complaints()
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, RootHandler):
            handler.stream = None
    root.addHandler(complaints)
    with telemetry.tracer_provider.get_tracer("clearspan.doctor").start_as_current_span("clearspan doctor") as span:
        logging.getLogger("clearspan.doctor").warning("clearspan doctor looks for this line's span")
    sampled = span.get_span_context().trace_flags.sampled
    in_time = telemetry.close(_SEND_TIMEOUT_S)
    refused = [
        Finding("wrong", complaint, "what listens there is no receiver of OTLP by this protocol, or refuses it")
        for complaint in complaints.heard.values()
    ]
    if not in_time and not refused:
        refused = [Finding("wrong", f"the endpoint did not answer within {_SEND_TIMEOUT_S:g} s", "look at its network")]
    yield from refused or [Finding("ok", "a span and a log line were given away, and nobody refused them")]
    if not sampled:
        yield Finding("note", "the span was not among those that are kept", "run it with OTEL_TRACES_SAMPLER=always_on")
    elif not refused:
        yield _found(viewer_url, token, format_trace_id(span.get_span_context().trace_id))


class _Complaints(logging.Handler):
    """What each exporter says first when it fails."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("opentelemetry", "observability.providers")):
            self.heard.setdefault(record.name, scrub_text(" ".join(record.getMessage().split()))[0])


def _found(viewer_url: str, token: str | None, trace_id: str) -> Finding:
    deadline = time.monotonic() + _FIND_TIMEOUT_S
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=viewer_url, trust_env=False, timeout=_FIND_TIMEOUT_S, headers=headers) as client:
        while True:
            try:
                answer = client.get(f"/api/traces/{trace_id}")
                if answer.is_success:
                    return Finding("ok", f"the span is in the viewer: {viewer_url}/trace/{trace_id}")
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    what = f"the viewer at {viewer_url} asks for its token"
                    return Finding("note", what, "set CLEARSPAN_VIEWER_TOKEN to it")
            except httpx.HTTPError as error:
                advice = f"{scrub_text(str(error))[0]}; name another with --url"
                return Finding("note", f"no viewer or Jaeger answers at {viewer_url}", advice)
            if time.monotonic() > deadline:
                advice = "the endpoint leads to another receiver, or one that samples: look for the trace there"
                return Finding("wrong", f"the viewer at {viewer_url} has no trace {trace_id}", advice)
            time.sleep(0.2)


def _otlp_signals(environ: Mapping[str, str]) -> list[str]:
    return [signal for signal in _SIGNALS if "otlp" in (environ.get(f"OTEL_{signal.upper()}_EXPORTER") or "otlp")]


def _asked(signal: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Protocol, URL and the variable of the URL of a signal: https://opentelemetry.io/docs/specs/otel/protocol/exporter/."""
    own, shared = f"OTEL_EXPORTER_OTLP_{signal.upper()}", "OTEL_EXPORTER_OTLP"
    protocol = environ.get(f"{own}_PROTOCOL") or environ.get(f"{shared}_PROTOCOL") or "http/protobuf"
    name = f"{own}_ENDPOINT" if environ.get(f"{own}_ENDPOINT") else f"{shared}_ENDPOINT"
    return protocol, environ.get(name) or f"http://localhost:{4317 if protocol == 'grpc' else 4318}", name


def _address(signal: str, environ: Mapping[str, str]) -> tuple[str, int] | None:
    _, url, _ = _asked(signal, environ)
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = parts.port
    except ValueError:
        return None
    return parts.hostname or "localhost", port or (443 if parts.scheme == "https" else 80)


def _endpoint(signal: str, environ: Mapping[str, str]) -> Finding:
    protocol, url, name = _asked(signal, environ)
    shown = scrub_url(url)[0]
    what = f"{signal} go to {shown} by {protocol}"
    if protocol not in _PORTS.values():
        return Finding("wrong", what, "of the protocols, http/protobuf and grpc are supported")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return Finding("wrong", what, f"{name} is not a URL")
    if protocol != "grpc" and parts.scheme not in ("http", "https"):
        return Finding("wrong", what, f"{name} has to begin with http:// or https://")
    if _PORTS.get(port or 0, protocol) != protocol:
        advice = f"{port} is the usual port of {_PORTS[port or 0]}: change the port, or OTEL_EXPORTER_OTLP_PROTOCOL"
        return Finding("wrong", what, advice)
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT" and parts.path.endswith(f"/v1/{signal}"):
        return Finding("wrong", what, f"/v1/{signal} is added to {name}: take it away there")
    return Finding("ok", what)


def _sampler(environ: Mapping[str, str]) -> Iterator[Finding]:
    sampler, argument = environ.get("OTEL_TRACES_SAMPLER", ""), environ.get("OTEL_TRACES_SAMPLER_ARG") or "1"
    if "always_off" in sampler:
        yield Finding("wrong", f"OTEL_TRACES_SAMPLER={sampler}", "no trace begins here: unset it, or use always_on")
    elif "traceidratio" in sampler and argument != "1":
        yield Finding("note", f"of all traces {scrub_text(argument)[0]} are kept: OTEL_TRACES_SAMPLER_ARG")


def _known_variables() -> set[str]:
    """The names that the installed packages of OpenTelemetry declare."""
    modules = (import_module(one.value) for one in entry_points(group="opentelemetry_environment_variables"))
    return {name for module in modules for name in vars(module) if name.startswith("OTEL_")}
