"""`motoric deploy`, `motoric predict` and `motoric keys`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from motoric.cli.console import console, print_segments, timed
from motoric.core import storage
from motoric.core.errors import UserError
from motoric.core.releases import read_release
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.artefact.signature import Signature

keys = typer.Typer(help="API keys of the endpoints.", no_args_is_help=True)

_MAX_ROWS = 40


def deploy(
    name: Annotated[str, typer.Argument(help="Name of a model; deployments/models/NAME.yaml.")],
    folder: Annotated[Path, typer.Option(help="Folder of the deployment files.")] = Path(
        "deployments"
    ),
) -> None:
    """Put a model on the running platform, and wait until it answers.

    Other models stay as they are.

    Example: motoric deploy watch-exercises
    """
    from motoric.cluster.deploy import deploy as run_deploy
    from motoric.serving.config import load_deployment

    settings = load()
    deployment = load_deployment(folder / "models" / f"{name}.yaml")
    with timed(f"deployed {name}"):
        made = run_deploy(settings, deployment, lambda text: console.print(f"[dim]  {text}[/]"))
    url = f"{settings.base_url}/v1/models/{name}"
    console.print(f"version {made.primary.version} answers at {url}/predict", soft_wrap=True)
    console.print(f"its API docs are at {url}/docs", soft_wrap=True)


def predict(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    file: Annotated[
        Path,
        typer.Argument(help="CSV with a column a channel, Parquet, FIT, GPX, TCX or a video."),
    ],
    local: Annotated[
        bool, typer.Option("--local", help="Run the released artefact in this process.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Smooth the windows into segments.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the timeline here, a PNG; with --timeline.")
    ] = None,
) -> None:
    """Predict what a recording shows, window by window or as a timeline.

    Example: motoric predict watch-exercises watch-005.csv --timeline --plot timeline.png
    """
    from motoric.serving.files.answers import is_whole

    settings = load()
    asked = _local(settings, name) if local else _remote(settings, name)
    if timeline and is_whole(asked.signature):
        raise UserError(f"{name} takes whole movements: --timeline needs a model of short windows")
    if timeline and asked.signature.output.kind != "classes":
        raise UserError(f"{name} gives {asked.signature.output.kind}: --timeline needs classes")
    answer = asked.answer(file)
    if "series" in answer:
        answer["predictions"] = answer.pop("series")
    else:
        answer["predictions"], segments = answer.pop("windows"), answer.pop("segments")
        if timeline:
            answer["timeline"] = segments
    if plot is not None and timeline:
        _draw(plot, file, answer["timeline"])
    if as_json:
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    elif timeline:
        _print_labels(answer, answer["timeline"], file)
    elif asked.signature.output.kind == "classes":
        _print_predictions(answer, file)
    else:
        _print_series(answer, file)


def _draw(plot: Path, file: Path, segments: list[dict[str, Any]]) -> None:
    from motoric.artefact.timeline import Segment
    from motoric.training.evaluation.timeline_plots import PlottedSeries, timeline_plot

    if plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: name a .png, as it is a PNG, in a folder that exists")
    found = tuple(Segment(**segment) for segment in segments)
    plot.write_bytes(timeline_plot({file.name: PlottedSeries(true=(), found=found)}))


class _Asked:
    """A model, and how to ask it with a file."""

    def __init__(self, signature: Signature, answer: Callable[[Path], dict[str, Any]]) -> None:
        self.signature = signature
        self.answer = answer


def _remote(settings: Settings, name: str) -> _Asked:
    from motoric.cli.endpoint import open_client

    client = open_client(settings)

    def answer(file: Path) -> dict[str, Any]:
        found = client.predict_file(name, file, with_windows=True)
        return found.model_dump(exclude_unset=True)

    return _Asked(client.model(name).signature, answer)


def _local(settings: Settings, name: str) -> _Asked:
    from motoric.artefact.files import load_artefact
    from motoric.artefact.predictor import Predictor
    from motoric.serving.files.offline import predict_file

    release = read_release(settings.storage_uri, name).primary
    uri = storage.resolve(release.artefact, settings.storage_uri)
    predictor = Predictor(load_artefact(uri, release.digest))
    about = {"model": name, "version": release.version, "digest": release.digest}

    def answer(file: Path) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(
            predict_file(predictor, file, about, with_windows=True)
        )
        return found

    return _Asked(predictor.signature, answer)


def _print_labels(answer: dict[str, Any], spans: list[dict[str, Any]], file: Path) -> None:
    keys = ("start_s", "end_s", "label", "probability")
    title = f"{file.name}: {answer['model']} version {answer['version']}"
    print_segments(title, (tuple(item[key] for key in keys) for item in spans))


def _print_series(answer: dict[str, Any], file: Path) -> None:
    title = f"{file.name}: {answer['of']} by {answer['model']} version {answer['version']}"
    table = Table(title=title, title_justify="left")
    table.add_column("from (s)", justify="right")
    table.add_column("to (s)", justify="right")
    names = list(answer["predictions"][0].get("quantiles", {"value": 0}))
    for column in names:
        table.add_column(f"{column} ({answer['unit']})", justify="right")
    for item in answer["predictions"][:_MAX_ROWS]:
        values = item.get("quantiles", item)
        numbers = [f"{values[column]:.4g}" for column in names]
        table.add_row(f"{item['start_s']:.1f}", f"{item['end_s']:.1f}", *numbers)
    console.print(table)
    if len(answer["predictions"]) > _MAX_ROWS:
        console.print(f"... and {len(answer['predictions']) - _MAX_ROWS} more (--json prints all)")


def _print_predictions(answer: dict[str, Any], file: Path) -> None:
    predictions = answer["predictions"]
    _print_labels(answer, predictions[:_MAX_ROWS], file)
    if len(predictions) > _MAX_ROWS:
        console.print(f"... and {len(predictions) - _MAX_ROWS} more windows (--json prints all)")
    mean: dict[str, float] = {}
    for item in predictions:
        for label, probability in item["probabilities"].items():
            mean[label] = mean.get(label, 0.0) + probability / len(predictions)
    best = max(mean, key=lambda label: mean[label])
    console.print(f"over all {len(predictions)} windows: [bold]{best}[/] ({mean[best]:.1%})")


@keys.command("create")
def create_key(name: Annotated[str, typer.Argument(help="Who or what the key is for.")]) -> None:
    """Create an API key; it is shown once.

    Example: motoric keys create phone-app
    """
    from motoric.serving.accounts import open_accounts

    with closing(open_accounts(load())) as accounts:
        made = accounts.create_key(name)
    console.print(f"key {made.grant.key_id} for {made.grant.name}; it is not shown again:")
    typer.echo(made.secret)


@keys.command("list")
def list_keys() -> None:
    """List keys, without their secrets.

    Example: motoric keys list
    """
    from motoric.serving.accounts import open_accounts

    table = Table()
    for column in ("id", "name"):
        table.add_column(column)
    with closing(open_accounts(load())) as accounts:
        for record in accounts.list_keys():
            table.add_row(record.key_id, record.name)
    console.print(table)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="Id from `motoric keys list`.")]) -> None:
    """Revoke a key; endpoints refuse it within seconds.

    Example: motoric keys revoke 1a2b3c4d
    """
    from motoric.serving.accounts import open_accounts

    with closing(open_accounts(load())) as accounts:
        accounts.revoke_key(key_id)
    console.print(f"key {key_id} is revoked")
