"""`clearspan up`: the services of pyproject.toml and the viewer as child processes, for development.

The launcher, not the application, chooses development telemetry: short export intervals, everything sampled.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from observability.project import ProjectError, read_table

if TYPE_CHECKING:
    from fastapi import FastAPI

BASE_PORT, PAGE_PORT, OTLP_PORT, GRPC_PORT = 8000, 16686, 4318, 4317
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 9.0
STOP_SHARE_S = 0.6
"""What is kept for each child that is still to be stopped: one without requests in flight needs less."""
LAST_LINES = 20
MAX_LINE_BYTES = 64 * 1024
HELD_LINES = 1000
"""How many lines are kept back while everything starts; of more the first are lost."""

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan")
_PR_SET_PDEATHSIG = 1
_ELSEWHERE = {f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "LOGS_")}
"""What sends telemetry to another receiver than our viewer."""


class LauncherError(Exception):
    """The services cannot be started; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of `[tool.clearspan.services]`: its application's factory as `module:name`, and its port."""

    name: str
    app: str
    port: int


@dataclass(slots=True)
class _Child:
    name: str
    process: asyncio.subprocess.Process
    colour: str
    url: str
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    output: asyncio.Task[None] | None = None


def read_services(pyproject: Path) -> list[Service]:
    """The services of a project, in their order.

    Raises:
        LauncherError: The file cannot be read, or its table of services is missing or malformed.
    """
    try:
        table = read_table(pyproject, "services")
    except ProjectError as error:
        raise LauncherError(str(error)) from error
    if not isinstance(table, dict) or not table:
        raise LauncherError(f"{pyproject} has no services: name them in [tool.clearspan.services]")
    services = []
    for name, entry in table.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("app"), str) or type(entry.get("port")) is not int:
            raise LauncherError(f'{pyproject}: service {name} must look like {{ app = "module:factory", port = 8000 }}')
        services.append(Service(name, entry["app"], entry["port"]))
    return services


def load_factory(service: Service) -> Callable[[], FastAPI]:
    """The function that makes a service's application.

    Raises:
        LauncherError: There is no such module or name.
    """
    module, _, name = service.app.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # the project's own packages, as `python -m` would find them
    try:
        factory: Callable[[], FastAPI] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:  # the last one of OpenTelemetry's import-time settings
        raise LauncherError(f"service {service.name}: {service.app} cannot be loaded: {error}") from error
    return factory


async def launch(pyproject: Path, *, base_port: int, data_dir: Path) -> int:
    """Start everything, stream the logs, and stop in order at SIGINT or SIGTERM.

    Args:
        pyproject: Names the services.
        base_port: Port of the service that pyproject puts at 8000; every other port is moved as far.
        data_dir: Folder of all databases.

    Returns:
        The exit code: 0 if everything ran until it was asked to stop, 1 if a service died.

    Raises:
        LauncherError: Nothing was started, or what was has been stopped again.
    """
    services = read_services(pyproject)
    offset = base_port - BASE_PORT
    page, otlp, grpc = (port + offset for port in (PAGE_PORT, OTLP_PORT, GRPC_PORT))
    _check_ports([*(service.port + offset for service in services), page, otlp, grpc], base_port)
    console = Console(highlight=False, soft_wrap=True)
    launcher = _Launcher(console, width=max(len(service.name) for service in services))
    urls = {service.name: f"http://127.0.0.1:{service.port + offset}" for service in services}
    environment = development_environment(urls, f"http://127.0.0.1:{otlp}", data_dir, pretty=console.is_terminal)
    # Even if no collector answers any more, each service ends by itself within its share of the time.
    environment.setdefault("CLEARSPAN_CLOSE_TIMEOUT", f"{STOP_TIMEOUT_S / 2 / (len(services) + 1):.2f}")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        ports = ["--port", str(page), "--otlp-port", str(otlp), "--grpc-port", str(grpc)]
        arguments = ["viewer", *ports, "--data-dir", str(data_dir)]
        await launcher.start("viewer", arguments, environment, f"http://127.0.0.1:{page}", "/livez")
        for service in services:
            await launcher.start(
                service.name,
                ["serve", service.name, "--port", str(service.port + offset)],
                {**environment, **own_environment(service, edge=service is services[0])},
                urls[service.name],
                "/readyz",
            )
        started = asyncio.create_task(launcher.wait_until_ready())
        asked = asyncio.create_task(stopping.wait())
        await asyncio.wait({started, asked}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            _print_urls(console, urls, f"http://127.0.0.1:{page}")
            launcher.show_output()
            deaths = asyncio.create_task(launcher.wait_for_deaths())
            await asyncio.wait({asked, deaths}, return_when=asyncio.FIRST_COMPLETED)
            deaths.cancel()
        started.cancel()
        asked.cancel()
    finally:
        await launcher.stop()
    return 1 if launcher.died else 0


class _Launcher:
    """Owns the child processes and the tasks that read their output."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width
        self._children: list[_Child] = []
        self._probes: dict[str, str] = {}
        self._held: deque[tuple[_Child, str]] | None = deque(maxlen=HELD_LINES)
        self._stopping = False
        self.died = False

    async def start(
        self, name: str, arguments: Sequence[str], environment: dict[str, str], url: str, probe: str
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "observability.cli",
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE_BYTES,
            # Ctrl-C in a terminal reaches the launcher alone, which stops its children in order; and should the
            # launcher be killed, they end with it.
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        child = _Child(name, process, _COLOURS[len(self._children) % len(_COLOURS)], url)
        child.output = asyncio.create_task(self._stream(child), name=f"output of {name}")
        self._children.append(child)
        self._probes[name] = f"{url}{probe}"

    async def wait_until_ready(self) -> None:
        """Return when all probes pass.

        Raises:
            LauncherError: A child died or took too long.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                for child in self._children:
                    while not await _answers(self._probes[child.name]):
                        if child.process.returncode is not None:
                            await self._report(child)
                            raise LauncherError(f"{child.name} did not start; its last lines are above")
                        await asyncio.sleep(0.05)
        except TimeoutError:
            self.show_output()
            raise LauncherError(f"not everything was ready within {START_TIMEOUT_S:g} s") from None

    def show_output(self) -> None:
        """Show what the children have written so far and, from now on, what they write."""
        held, self._held = self._held, None
        for child, text in held or ():
            self._show(child, text)

    async def wait_for_deaths(self) -> None:
        """Report each child that ends by itself, until all have ended."""

        async def watch(child: _Child) -> None:
            await child.process.wait()
            if not self._stopping:
                self.died = True
                await self._report(child)

        await asyncio.gather(*(watch(child) for child in self._children))

    async def stop(self) -> None:
        """Stop the services in their order and the viewer last, so that it gets what they flush."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT_S
        viewer, services = self._children[:1], self._children[1:]
        for index, child in enumerate([*services, *viewer]):
            if child.process.returncode is not None:
                continue
            with suppress(ProcessLookupError):
                child.process.terminate()
            left = deadline - asyncio.get_running_loop().time()
            try:
                kept = STOP_SHARE_S * (len(self._children) - index - 1)
                await asyncio.wait_for(child.process.wait(), max(0.1, left - kept))
            except TimeoutError:
                self._console.print(f"[red]{child.name} did not stop in time and was killed[/red]")
                with suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()
        await asyncio.gather(*(child.output for child in self._children if child.output is not None))

    async def _stream(self, child: _Child) -> None:
        assert child.process.stdout is not None  # noqa: S101 - it is a pipe
        while True:
            try:
                line = await child.process.stdout.readline()
            except ValueError:  # longer than the limit: the stream has dropped it
                line = b"(a line that is too long to show)\n"
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\n")
            child.lines.append(text)
            if self._held is None:
                self._show(child, text)
            else:
                self._held.append((child, text))

    def _show(self, child: _Child, text: str) -> None:
        self._console.print(f"[{child.colour}]{child.name:<{self._width}}[/] │ ", end="")
        self._console.out(text, highlight=False)

    async def _report(self, child: _Child) -> None:
        if child.output is not None:
            await child.output
        code = child.process.returncode
        self._console.print(f"[bold red]{child.name} ended with exit code {code}; its last lines:[/]")
        for line in child.lines:
            self._console.print("  ", end="")
            self._console.out(line, highlight=False)
        if not self._stopping and len(self._children) > 1:
            self._console.print("[bold red]the others go on; to have it back, stop them and start again[/]")


def _check_ports(ports: Sequence[int], base_port: int) -> None:
    for port in ports:
        if not 0 < port < 2**16:
            raise LauncherError(f"port {port} does not exist; choose a --port nearer to {BASE_PORT}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                other = base_port + 1000
                raise LauncherError(
                    f"port {port} is taken (is another one running?); move all ports: "
                    f"clearspan up --port {other}, or make run PORT={other}"
                ) from None


def development_environment(urls: dict[str, str], otlp_url: str, data_dir: Path, *, pretty: bool) -> dict[str, str]:
    """The environment of the services: this process's, with short export intervals where it says nothing of them.

    Args:
        urls: Where each service answers, by name.
        otlp_url: Where their telemetry goes.
        data_dir: Folder of their databases.
        pretty: Whether their log lines are for people.
    """
    defaults = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "4096",
        "CLEARSPAN_LOG_FORMAT": "pretty" if pretty else "json",
        # Only our viewer knows what these notices are.
        "CLEARSPAN_UNFINISHED_SPANS": "false" if _ELSEWHERE & os.environ.keys() else "true",
        # Theirs alone, and a new one each time: what reaches the public port is no event.
        "CLEARSPAN_EVENTS_TOKEN": secrets.token_urlsafe(),
    }
    fixed = {f"{name.upper().replace('-', '_')}_URL": url for name, url in urls.items()}
    fixed |= {"CLEARSPAN_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
    for name in ("NO_PROXY", "no_proxy"):  # telemetry for the viewer would go to a proxy of the environment
        fixed[name] = ",".join([*filter(None, [os.environ.get(name)]), "127.0.0.1", "localhost"])
    return {**defaults, **os.environ, **fixed}


def own_environment(service: Service, *, edge: bool) -> dict[str, str]:
    """What a service does not share with the others: its name; and that the public edge, the first one, has no faults.

    So `CLEARSPAN_FAULTS=true clearspan up` lets all others have them, where the edge would refuse to start.
    """
    return {"OTEL_SERVICE_NAME": service.name, **({"CLEARSPAN_FAULTS": "false"} if edge else {})}


def _print_urls(console: Console, urls: dict[str, str], page: str) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, url in urls.items():
        table.add_row(name, url)
    table.add_row("traces", page, style="bold")
    console.print(table)
    # Not in the table, which would cut it at the terminal's width: it is there to be copied.
    order = '{"sku":"mug","quantity":2}'
    first = next(iter(urls.values()))
    console.out(f"\ncurl {first}/orders -H 'content-type: application/json' -d '{order}'\n", highlight=False)


async def _answers(url: str) -> bool:
    """Whether a probe's URL answers 200; by hand, since importing an HTTP client takes longer than asking."""
    host, _, path = url.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(address, int(port))
            try:
                writer.write(f"GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def end_with_parent() -> None:
    """In a new child process on Linux: end it when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
