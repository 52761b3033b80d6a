"""`motoric up`, `down`, `status` and `cluster env`."""

from __future__ import annotations

import shlex
import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console, errors
from motoric.cluster import environment, local, processes
from motoric.cluster.credentials import credentials_path
from motoric.cluster.serve_api import ServeApi, explain
from motoric.cluster.state import PlatformState
from motoric.core import releases
from motoric.core.errors import MotoricError, UserError
from motoric.core.settings import Settings, load

_STYLES = {"RUNNING": "green", "HEALTHY": "green", "DEPLOYING": "yellow", "UPDATING": "yellow"}


def up() -> None:
    """Start the local platform: Ray, the endpoints, and an API key of your own.

    Does nothing where it runs already. Everything listens on this machine only.

    Example: motoric up
    """
    settings = load()
    already = local.running(settings) is not None
    started_s = time.monotonic()
    with console.status("starting") as spinner:
        state = local.up(settings, on_stage=spinner.update)
    took = "runs already" if already else f"started in {time.monotonic() - started_s:.0f} s"
    console.print(f"[green]●[/] platform {took}\n")
    console.print(_where(settings, state))
    console.print("\nStop it with [bold]motoric down[/].")
    _print_open_sockets(state)


def down() -> None:
    """Stop the local platform and every process it started; other Rays are not touched.

    Data, models and keys stay.

    Example: motoric down
    """
    with console.status("stopping"):
        num_ended = local.down(load())
    if num_ended:
        console.print(f"stopped; {num_ended} processes ended")
    else:
        console.print("no platform was running")


def status() -> None:
    """Show what runs: applications, released models, memory, and sockets beyond this machine.

    Example: motoric status
    """
    settings = load()
    state = local.running(settings)
    if state is None:
        console.print("no platform is running here; [bold]motoric up[/] starts one")
    else:
        console.print(_where(settings, state))
        console.print(_usage(state))
        with ServeApi(state.dashboard_url, state.token_path) as api:
            console.print(_applications(api.applications()))
    console.print(_released(settings))
    if state is not None:
        _print_open_sockets(state)


def env(
    profile: Annotated[
        str | None,
        typer.Option(help="Print what a node of this profile exports before `ray start` instead."),
    ] = None,
) -> None:
    """Print the variables with which `ray job submit` and `serve deploy` find this platform.

    Example: eval "$(motoric cluster env)" && ray job submit --working-dir . -- python jobs/train.py

    With --profile, print what a node of that profile exports (`cluster.yaml` uses it).
    """
    if profile is not None:
        variables = environment.node_environment(load(profile=profile))
    else:
        state = local.running(load())
        if state is None:
            raise UserError("no platform is running here: `motoric up` starts one")
        variables = local.client_environment(state)
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _where(settings: Settings, state: PlatformState) -> Table:
    table = Table.grid(padding=(0, 3))
    rows = {
        "endpoints": f"{state.http_url}/v1/models",
        "API docs": f"{state.http_url}/docs",
        "your API key": str(credentials_path()),
        "dashboard": f"{state.dashboard_url} (asks for the token in {state.token_path})",
        "ray job submit": 'eval "$(motoric cluster env)" first',
        "Ray address": state.ray_address,
        "storage": settings.storage_uri,
        "logs": str(state.log_folder),
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    return table


def _usage(state: PlatformState) -> str:
    num_processes = len(processes.find(state.instance_id))
    memory_gib = processes.memory_bytes(state.instance_id) / 2**30
    hours, rest_s = divmod(int(time.time() - state.started_at_s), 3600)
    return (
        f"\nup for {hours} h {rest_s // 60} min, {num_processes} processes, {memory_gib:.1f} GiB\n"
    )


def _applications(applications: dict[str, Any]) -> Table:
    table = Table("application", "route", "state", "replicas", "message", box=None)
    for name, application in applications.items():
        state = str(application.get("status"))
        running = replicas = 0
        for deployment in (application.get("deployments") or {}).values():
            states = [replica.get("state") for replica in deployment.get("replicas") or ()]
            running += states.count("RUNNING")
            replicas += len(states)
        table.add_row(
            name,
            application.get("route_prefix"),
            f"[{_STYLES.get(state, 'red')}]{state}[/]",
            f"{running} of {replicas}",
            "" if state == "RUNNING" else escape(explain(application)[:300]),
        )
    return table


def _released(settings: Settings) -> Table:
    table = Table("released model", "version", "alias", "mode", box=None)
    for name in releases.list_released(settings.storage_uri):
        try:
            release = releases.read_release(settings.storage_uri, name)
        except MotoricError as error:  # one broken document must not hide the others
            table.add_row(name, "[red]unreadable[/]", "", escape(error.message[:100]))
            continue
        table.add_row(name, str(release.primary.version), release.alias, release.mode)
    if not table.row_count:
        table.add_row("none yet", "", "", "")
    return table


def _print_open_sockets(state: PlatformState) -> None:
    # Advice that a person reads must not end up where `eval` reads.
    for process, address in local.open_sockets(state):
        errors.print(
            f"[yellow]open beyond this machine:[/] {escape(process)} on {escape(address)}; "
            "close it with a firewall"
        )
