"""The `motoric` command: noun and verb, with short forms for what people type daily."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from motoric import __version__
from motoric.cli import (
    datasets,
    demo,
    evaluate,
    ingest,
    models,
    platform,
    runs,
    serving,
    stream,
    train,
    tune,
)
from motoric.cli.console import errors
from motoric.core.errors import MotoricError

_INTERRUPTED = 130

app = typer.Typer(
    name="motoric",
    help="Motion recordings in, trained models out, predictions over HTTP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
cluster = typer.Typer(help="The cluster definition and the running platform.", no_args_is_help=True)
cluster.command("env")(platform.env)

app.command("ingest")(ingest.ingest)
app.add_typer(datasets.app, name="datasets")
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(runs.app, name="runs")
app.add_typer(models.app, name="models")
app.command("up")(platform.up)
app.command("deploy")(serving.deploy)
app.command("predict")(serving.predict)
app.command("stream")(stream.stream)
app.command("status")(platform.status)
app.command("down")(platform.down)
app.add_typer(serving.keys, name="keys")
app.add_typer(cluster, name="cluster")
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motoric {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors meant to be read come without a traceback."""
    # Deprecations inside the libraries are not for the users of this command.
    warnings.filterwarnings("ignore")
    try:
        app(list(sys.argv[1:] if arguments is None else arguments))
    except MotoricError as error:
        errors.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("interrupted")
        return _INTERRUPTED
    except SystemExit as ended:  # typer ends this way, also after it printed a usage error
        return ended.code if isinstance(ended.code, int) else 0
    return 0
