"""`motoric deploy`, `motoric predict` and `motoric keys`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import typer
from rich.table import Table

from motoric.cli.console import console, timed
from motoric.core import storage
from motoric.core.errors import InputError, UserError
from motoric.core.releases import read_release
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from motoric.artefact.signature import Signature
    from motoric.artefact.timeline import Timeline
    from motoric.data.windows import Window

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
        Path, typer.Argument(help="CSV with a column a channel, in the model's units.")
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
    from motoric.data.csv_file import read_csv

    settings = load()
    predictor = _local_predictor(settings, name) if local else _remote_predictor(settings, name)
    sensors = predictor.signature.sensors
    channels = [channel.name for channel in sensors.channels]
    time_s, values_TC = read_csv(file, channels, sensors.rate_hz)
    if timeline and sensors.span == "annotation":
        raise UserError(f"{name} takes whole movements: --timeline needs a model of short windows")
    windows = _windows(file, time_s, values_TC, predictor.signature)
    answer = predictor.predict(np.stack([window.values_TC for window in windows]))
    for window, prediction in zip(windows, answer["predictions"], strict=True):
        prediction["start_s"] = round(window.start_s, 3)
        prediction["end_s"] = round(window.end_s, 3)
    if timeline:
        starts = [window.start_s for window in windows]
        segments = _timeline(predictor.signature, starts, answer)
        answer["timeline"] = [asdict(segment) for segment in segments]
        if plot is not None:
            _draw(plot, file, segments)
    if as_json:
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    elif timeline:
        _print_timeline(answer, file)
    else:
        _print_predictions(answer, file)


def _timeline(signature: Signature, starts: list[float], answer: dict[str, Any]) -> Timeline:
    from motoric.artefact.timeline import smooth

    probabilities_BK = np.array(
        [
            [item["probabilities"][name] for name in signature.classes]
            for item in answer["predictions"]
        ]
    )
    probabilities_BK /= probabilities_BK.sum(axis=1, keepdims=True)
    return smooth(
        starts,
        probabilities_BK,
        length_s=signature.sensors.length_s,
        hop_s=signature.sensors.hop_s,
        classes=signature.classes,
        settings=signature.timeline,
    )


def _draw(plot: Path, file: Path, segments: Timeline) -> None:
    from motoric.training.evaluation.timeline_plots import PlottedSeries, timeline_plot

    if plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: name a .png, as it is a PNG, in a folder that exists")
    plot.write_bytes(timeline_plot({file.name: PlottedSeries(true=(), found=segments)}))


def _print_timeline(answer: dict[str, Any], file: Path) -> None:
    title = f"{file.name}: {answer['model']} version {answer['version']}"
    table = Table(title=title, title_justify="left")
    table.add_column("from (s)", justify="right")
    table.add_column("to (s)", justify="right")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for item in answer["timeline"]:
        table.add_row(
            f"{item['start_s']:.1f}",
            f"{item['end_s']:.1f}",
            item["label"] or "[dim]uncertain[/]",
            f"{item['probability']:.1%}",
        )
    console.print(table)


class _Predictor:
    def __init__(self, signature: Signature, run: Any) -> None:
        self.signature = signature
        self._run = run

    def predict(self, windows_BTC: NDArray[np.float32]) -> dict[str, Any]:
        answer: dict[str, Any] = self._run(windows_BTC)
        return answer


def _remote_predictor(settings: Settings, name: str) -> _Predictor:
    from motoric.cli.endpoint import Endpoint

    endpoint = Endpoint(settings, name)
    return _Predictor(endpoint.signature(), endpoint.predict)


def _local_predictor(settings: Settings, name: str) -> _Predictor:
    from motoric.artefact.files import load_artefact
    from motoric.artefact.predictor import Predictor
    from motoric.serving.protocol import AnswerWriter

    release = read_release(settings.storage_uri, name).primary
    uri = storage.resolve(release.artefact, settings.storage_uri)
    predictor = Predictor(load_artefact(uri, release.digest))
    writer = AnswerWriter(
        model=name,
        version=release.version,
        digest=release.digest,
        classes=predictor.signature.classes,
    )

    def run(windows_BTC: NDArray[np.float32]) -> Any:
        return orjson.loads(writer.write(predictor.predict(windows_BTC)))

    return _Predictor(predictor.signature, run)


def _windows(
    file: Path,
    time_s: NDArray[np.float64],
    values_TC: NDArray[np.float32],
    signature: Signature,
) -> list[Window]:
    from motoric.data.windows import Windower

    sensors = signature.sensors
    windower = Windower(
        native_rate_hz=sensors.rate_hz,
        rate_hz=sensors.rate_hz,
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        context_s=sensors.context_s,
        max_gap_s=signature.preprocessing.max_gap_s,
    )
    if sensors.span == "annotation":
        whole = windower.whole(time_s, values_TC, fit=sensors.fit)
        windows = [] if whole is None else [whole]
    else:
        windows = windower.push(time_s, values_TC) + windower.finish()
    if not windows and sensors.span == "annotation":
        raise InputError(f"{file}: one movement without a gap is needed; this has none")
    if not windows:
        raise InputError(
            f"{file} has {len(values_TC)} samples; one window of {sensors.length_s:g} s needs"
            f" {sensors.num_samples} without a gap"
        )
    return windows


def _print_predictions(answer: dict[str, Any], file: Path) -> None:
    predictions = answer["predictions"]
    table = Table(
        title=f"{file.name}: {answer['model']} version {answer['version']}", title_justify="left"
    )
    table.add_column("from (s)", justify="right")
    table.add_column("to (s)", justify="right")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for item in predictions[:_MAX_ROWS]:
        table.add_row(
            f"{item['start_s']:.1f}",
            f"{item['end_s']:.1f}",
            item["label"],
            f"{item['probability']:.1%}",
        )
    console.print(table)
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
