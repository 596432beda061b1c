"""The `clearspan` command; each subcommand is a call into its subsystem."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from observability.events.undelivered import Undelivered
    from observability.faults.remote import RemoteFaults

VIEWER_URL = "http://127.0.0.1:16686"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DataDir = Annotated[Path, typer.Option(envvar="CLEARSPAN_DATA_DIR", help="Folder of the databases.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]


def main() -> None:
    """Run the command; what goes wrong in a known way ends with one line and exit code 1."""
    # For process 1, as in a container, the kernel has no default action: a SIGTERM while all is still being imported
    # would be lost. The servers put their own handlers in this one's place.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app()


@app.callback(invoke_without_command=True)
def options(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Observability-first FastAPI services, seen on one machine."""
    if show_version:
        typer.echo(version("clearspan"))
        raise typer.Exit


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the first service; all other ports move along.")] = 8000,
    data_dir: DataDir = Path(".clearspan"),
) -> None:
    """Start all services of pyproject.toml and the viewer."""
    from observability.launcher import LauncherError, launch

    try:
        code = asyncio.run(launch(Path("pyproject.toml"), base_port=port, data_dir=data_dir))
    except LauncherError as error:
        _fail(error)
    raise typer.Exit(code)


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help="Name of a service in pyproject.toml.")],
    host: Annotated[str, typer.Option(envvar="CLEARSPAN_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(envvar="PORT", min=1, max=65535, help="By default the one in pyproject.toml.")
    ] = None,
    drain_delay: Annotated[
        float, typer.Option(envvar="CLEARSPAN_DRAIN_DELAY", help="Seconds to serve on after readiness failed.")
    ] = 0.0,
) -> None:
    """Run one service in the foreground."""
    from pydantic import ValidationError

    from observability.launcher import LauncherError, load_factory, read_services
    from observability.providers import TelemetryError
    from observability.secret_files import SecretError
    from observability.server import ServerError
    from observability.server import serve as serve_app

    try:
        services = {service.name: service for service in read_services(Path("pyproject.toml"))}
        if name not in services:
            _fail(f"no service is named {name!r}; pyproject.toml knows {', '.join(services)}")
        gc.disable()  # what is imported stays, and looking for garbage in it takes a tenth of the start
        application = load_factory(services[name])()
        gc.freeze()
        gc.enable()
        serve_app(application, host=host, port=services[name].port if port is None else port, drain_delay_s=drain_delay)
        # The process ends here, and the last collection, over queues full of unsent telemetry, would take a second.
        gc.freeze()
    except ValidationError as error:  # of the service's settings, whose fields are named for their variables
        _fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    except OSError as error:
        _fail(f"service {name} cannot start: {error}")
    except (LauncherError, SecretError, ServerError, TelemetryError) as error:
        _fail(error)


@app.command()
def viewer(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages.")] = 16686,
    otlp_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of OTLP over HTTP.")] = 4318,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of OTLP over gRPC.")] = 4317,
    data_dir: DataDir = Path(".clearspan"),
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of pages that may send, such as https://shop.example; repeatable.")
    ] = None,
) -> None:
    """Run the viewer alone, for any program that speaks OTLP.

    On another address than the loopback it asks everybody for a token: CLEARSPAN_VIEWER_TOKEN, or one that it prints.
    """
    gc.disable()  # as above: what is imported stays
    from observability.viewer.server import Ports, ViewerError, run_viewer

    gc.freeze()
    gc.enable()
    token, ports = _viewer_token(), Ports(port, otlp_port, grpc_port)
    try:
        asyncio.run(run_viewer(host=host, ports=ports, data_dir=data_dir, token=token, origins=allow_origin or ()))
    except ViewerError as error:
        _fail(error)


@app.command()
def load(
    url: Annotated[str | None, typer.Argument(help="The public edge; by default the first service's.")] = None,
    *,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="Requests a second.")] = 5.0,
    seconds: Annotated[float | None, typer.Option(min=0, help="How long; by default until it is stopped.")] = None,
) -> None:
    """Send the requests of pyproject.toml at a rate that does not wait for answers."""
    from observability.launcher import LauncherError, read_services
    from observability.load.mix import MixError
    from observability.load.run import run_load

    pyproject = Path("pyproject.toml")
    try:
        edge = url if url is not None else f"http://127.0.0.1:{read_services(pyproject)[0].port}"
        if not edge.startswith(("http://", "https://")):
            _fail(f"{edge!r} is not a URL; write one like http://127.0.0.1:8000")
        run_load(pyproject, edge, rate=rate, seconds=seconds)
    except (LauncherError, MixError) as error:
        _fail(error)


@app.command()
def fault(
    service: Annotated[str | None, typer.Argument(help="Name of a service in pyproject.toml.")] = None,
    kind: Annotated[
        str | None,
        typer.Argument(help="latency, error, hang, reset, truncated, slow_body or not_json; off ends all faults."),
    ] = None,
    *,
    share: Annotated[float | None, typer.Option(help="Share of the requests that meet it; all by default.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long it lasts; 30 by default.")] = None,
    route: Annotated[str | None, typer.Option(help="Begin of the paths that meet it: /payments/{order_id}.")] = None,
    status: Annotated[int | None, typer.Option(help="What error answers; 503 by default.")] = None,
    delay: Annotated[float | None, typer.Option(help="Seconds of latency and slow_body; 0.5 by default.")] = None,
    port: Annotated[int, typer.Option(help="The --port that everything was started with.")] = 8000,
) -> None:
    """Let a service answer late, wrongly or not at all; without a service, list what is in force."""
    from observability.faults.remote import FaultError, RemoteFaults
    from observability.launcher import BASE_PORT, LauncherError, read_services

    try:
        remotes = {
            one.name: RemoteFaults(one.name, f"http://127.0.0.1:{one.port - BASE_PORT + port}")
            for one in read_services(Path("pyproject.toml"))
        }
        if service is not None and service not in remotes:
            _fail(f"no service is named {service!r}; pyproject.toml knows {', '.join(remotes)}")
        if service is None or kind is None:
            for name in [service] if service is not None else remotes:
                _list_faults(name, remotes[name])
        elif kind == "off":
            remotes[service].clear()
        else:
            options = {"share": share, "seconds": seconds, "route": route, "status": status, "delay_s": delay}
            remotes[service].set(
                {"kind": kind, **{name: value for name, value in options.items() if value is not None}}
            )
    except (FaultError, LauncherError) as error:
        _fail(error)


@app.command()
def doctor(
    url: Annotated[str, typer.Option(help="Where the pages of a viewer, or Jaeger's, are.")] = VIEWER_URL,
) -> None:
    """Find out why no telemetry arrives: look at the OTEL_ variables, send a span, and look for it."""
    from observability.doctor import examine

    wrong = False
    for finding in examine(os.environ, url.rstrip("/"), _viewer_token()):
        wrong |= finding.mark == "wrong"
        advice = f"\n       {finding.advice}" if finding.advice else ""
        typer.echo(f"{finding.mark:5}  {finding.what}{advice}")
    raise typer.Exit(int(wrong))


Query = Annotated[str, typer.Argument(help='As on the pages: service=orders error "out of stock" duration>200ms.')]
ViewerUrl = Annotated[str, typer.Option(help="Where the viewer's pages are.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def traces(
    query: Query = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=1500, help="Traces that are shown, the newest.")] = 20,
    as_json: AsJson = False,
    url: ViewerUrl = VIEWER_URL,
) -> None:
    """List the newest traces of a running viewer and, without a query, the requests that do not end."""
    from observability.look import LookError, Viewer, in_flight_line, trace_line

    viewer = Viewer(url, _viewer_token())
    try:
        found = viewer.traces(query, limit=limit)
        in_flight = [] if query or as_json else viewer.in_flight()
    except LookError as error:
        _fail(error)
    for one in reversed(found["traces"]):
        typer.echo(json.dumps(one) if as_json else trace_line(one))
    for request in in_flight:
        typer.echo(in_flight_line(request))
    if not found["complete"]:
        typer.echo("not all traces were looked at within the time: narrow the query", err=True)
    elif not found["traces"] and not in_flight:
        typer.echo("no trace meets the query" if query else "no trace has arrived yet", err=True)


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(help="Id of a trace: up to 32 hexadecimal digits.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="In the shape of Jaeger's API, with logs.")] = False,
    url: ViewerUrl = VIEWER_URL,
) -> None:
    """Draw one trace of a running viewer as a tree."""
    from observability.look import LookError, Viewer, trace_tree

    viewer = Viewer(url, _viewer_token())
    try:
        found = viewer.trace(trace_id)
    except LookError as error:
        _fail(error)
    typer.echo(json.dumps(found) if as_json else f"{trace_tree(found)}\n\n{viewer.page(found['traceID'])}")


@app.command()
def logs(
    query: Query = "",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until it is stopped.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Records that are shown, the newest.")] = 50,
    as_json: AsJson = False,
    url: ViewerUrl = VIEWER_URL,
) -> None:
    """Show log records of a running viewer, the newest last."""
    from observability.look import LookError, Viewer, log_line

    viewer = Viewer(url, _viewer_token())
    try:
        found = None if follow else viewer.logs(query, limit=limit)
        for one in viewer.follow(query, limit=limit) if found is None else reversed(found["logs"]):
            typer.echo(json.dumps(one) if as_json else log_line(one))
        if found is not None and not found["complete"]:
            typer.echo("not all records were looked at within the time: narrow the query", err=True)
        elif found is not None and not found["logs"]:
            typer.echo("no log record meets the query" if query else "no log record has arrived yet", err=True)
    except LookError as error:
        _fail(error)
    except KeyboardInterrupt:  # the way in which --follow ends
        raise typer.Exit from None


events = typer.Typer(help="Look after events that were not delivered.")
app.add_typer(events, name="events")


@events.callback(invoke_without_command=True)
def list_events(
    context: typer.Context,
    data_dir: DataDir = Path(".clearspan"),
    limit: Annotated[int, typer.Option(min=1, help="Events that are shown of each service.")] = 50,
) -> None:
    """List events that wait or are dead, the oldest first: those in DATA_DIR, or of DATABASE_URL and BROKER_URL."""
    context.obj = data_dir

    async def show(undelivered: Undelivered) -> None:
        async for line in undelivered.lines(limit):
            typer.echo(line)

    if context.invoked_subcommand is None:
        _on_undelivered(context, show)


@events.command()
def retry(
    context: typer.Context,
    event_id: Annotated[str | None, typer.Argument(help="Id of an event.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that were refused.")] = False,
) -> None:
    """Try refused or dead events again."""
    if (event_id is None) != every:
        _fail("name an event, or say --all")

    async def again(undelivered: Undelivered) -> None:
        count = await undelivered.retry(event_id)
        if count == 0:
            _fail("no refused or dead event has this id" if event_id else "no event was refused or is dead")
        typer.echo(f"{count} to be tried again")

    _on_undelivered(context, again)


@events.command()
def discard(context: typer.Context, event_id: Annotated[str, typer.Argument(help="Id of an event.")]) -> None:
    """Delete an event that nobody will take, so that later ones of its subject are delivered."""

    async def delete(undelivered: Undelivered) -> None:
        if await undelivered.discard(event_id) == 0:
            _fail("no event that waits or is dead has this id")
        typer.echo("deleted")

    _on_undelivered(context, delete)


def _on_undelivered(context: typer.Context, work: Callable[[Undelivered], Awaitable[None]]) -> None:
    from observability.events.undelivered import UndeliveredError, open_undelivered
    from observability.launcher import LauncherError, read_services
    from observability.secret_files import SecretError, variable

    async def run() -> None:
        names = [service.name for service in read_services(Path("pyproject.toml"))]
        urls = variable("DATABASE_URL"), variable("BROKER_URL")
        async with open_undelivered(names, context.obj, *urls) as undelivered:
            await work(undelivered)

    try:
        asyncio.run(run())
    except (LauncherError, SecretError, UndeliveredError) as error:
        _fail(error)


def _viewer_token() -> str | None:
    from observability.secret_files import SecretError, variable

    try:
        return variable("CLEARSPAN_VIEWER_TOKEN")
    except SecretError as error:
        _fail(error)


def _list_faults(name: str, remote: RemoteFaults) -> None:
    from observability.faults.remote import FaultError

    try:
        faults = remote.in_force()
    except FaultError as error:
        typer.echo(error)
        return
    for one in faults:
        typer.echo(f"{name}: {one['kind']} on {one['share']:g} of {one['route']} for {one['seconds']:g} s more")
    if not faults:
        typer.echo(f"{name}: none")


def _fail(reason: object) -> NoReturn:
    print(f"clearspan: {reason}", file=sys.stderr)  # noqa: T201 - a command line's own output
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
