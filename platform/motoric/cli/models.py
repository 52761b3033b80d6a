"""`motoric models`: the registry, from the command line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.table import Table

from motoric.cli import recommend
from motoric.cli.console import console
from motoric.core.settings import load

app = typer.Typer(
    help="Models in the registry: list, show, recommend, alias, ui.", no_args_is_help=True
)
app.command("recommend")(recommend.recommend)


@app.command("list")
def list_models() -> None:
    """List registered models with their newest version and aliases.

    Example: motoric models list
    """
    from motoric.registry.registry import Registry

    settings = load()
    found = Registry(settings.registry_uri, settings.storage_uri).models()
    if not found:
        console.print("no models yet: `motoric train jobs/recipes/watch_gru.yaml` makes one")
        return
    table = Table()
    for name in ("model", "versions", "aliases", "on unseen people", "newest"):
        table.add_column(name)
    for name, versions in found.items():
        aliases = [f"{alias} → {item.version}" for item in versions for alias in item.aliases]
        table.add_row(
            name,
            str(len(versions)),
            ", ".join(aliases) or "none",
            _score(versions[0].figures),
            _when(versions[0].created_at_s),
        )
    console.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a model.")]) -> None:
    """Show a model: its versions, and what the newest one takes and gives.

    Example: motoric models show watch-exercises
    """
    from motoric.artefact.description import describe_inputs, describe_output
    from motoric.artefact.files import load_artefact
    from motoric.registry.registry import Registry

    settings = load()
    versions = Registry(settings.registry_uri, settings.storage_uri).versions(name)
    table = Table(title=name, title_justify="left")
    for column in ("version", "aliases", "on unseen people", "worst person", "made"):
        table.add_column(column)
    table.add_column("digest", no_wrap=True)
    for item in versions:
        table.add_row(
            str(item.version),
            ", ".join(item.aliases),
            _score(item.figures),
            _percent(item.figures.get("accuracy_worst_subject")),
            _when(item.created_at_s),
            item.digest[:19],
        )
    console.print(table)
    signature = load_artefact(versions[0].artefact_uri, versions[0].digest).signature
    for line in describe_inputs(signature):
        console.print(f"takes    {line}", markup=False)
    console.print(f"gives    {describe_output(signature)}", markup=False)
    console.print(f"artefact {versions[0].artefact_uri}", soft_wrap=True)


@app.command()
def alias(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    alias: Annotated[str, typer.Argument(help="champion or candidate.")],
    version: Annotated[int, typer.Argument(help="Number of a version.")],
) -> None:
    """Give an alias to a version; a running endpoint follows `champion` within seconds.

    Example: motoric models alias watch-exercises champion 1
    """
    from motoric.registry.promotion import promote
    from motoric.registry.registry import Registry

    settings = load()
    registry = Registry(settings.registry_uri, settings.storage_uri)
    promote(registry, settings.storage_uri, name, alias, version)
    console.print(f"{name} version {version} is now {alias}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page on the registry, on loopback, until Ctrl-C.

    Example: motoric models ui
    """
    import os
    import sys

    settings = load()
    console.print(f"MLflow: http://127.0.0.1:{port}   (Ctrl-C ends it)")
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", settings.registry_uri, "--workers", "1"]
    os.execv(sys.executable, command)


def _score(figures: Mapping[str, str]) -> str:
    if "mae" in figures:
        return f"MAE {figures['mae']} {figures.get('unit', '')}".rstrip()
    return _percent(figures.get("accuracy"))


def _percent(value: str | None) -> str:
    return f"{float(value):.1%}" if value else ""


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
