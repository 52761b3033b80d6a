"""`motoric demo`: the whole path on real recordings, from one command."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console
from motoric.core import storage
from motoric.core.errors import MotoricError, UserError
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.artefact.predictor import Probabilities
    from motoric.client import Predictions
    from motoric.registry.registry import RegisteredVersion
    from motoric.training.examples import Examples
    from motoric.training.recipe import Recipe

_NAME = "watch-exercises"
_RECIPE = Path("jobs/recipes/watch_gru.yaml")
_DEPLOYMENT = Path(f"deployments/models/{_NAME}.yaml")
_ROWS_A_PERSON = 4
_VIDEO_NAME = "synthetic-motion"
_CLIP_FRAMES, _CLIP_S = 16, 2.0


def demo(
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep the model of an earlier run of the same recipe.")
    ] = False,
) -> None:
    """Run the whole path: real recordings, training, registry, endpoint, predictions over HTTP.

    A short video part follows, on drawn figures that are plainly synthetic.

    Stops the platform at the end if it started it.

    Example: motoric demo --reuse
    """
    from motoric.cluster import local
    from motoric.training.recipe import load_recipe

    if not (_RECIPE.is_file() and _DEPLOYMENT.is_file()):
        raise UserError("run the demo in a clone of the repository: it uses jobs/ and deployments/")
    settings, recipe = load(), load_recipe(_RECIPE)
    started_s = time.perf_counter()
    already = local.running(settings) is not None
    try:
        with _stage("1/6", "local platform from cluster.yaml") as say:
            local.up(settings)
            say("was running already" if already else "started")
        _build(settings)
        version = _train(settings, recipe, reuse=reuse)
        _deploy(settings)
        _ask(settings, recipe, version)
        video_report = _watch(settings)
        _print_next(settings, version, video_report, stays=already)
    finally:
        if not already:
            local.down(settings)
    console.print(f"\nThe demo took {time.perf_counter() - started_s:.0f} s.")


@contextmanager
def _stage(number: str, name: str) -> Iterator[Any]:
    """Print a headline, and at the end how long the stage took and what it said of itself."""
    console.print(f"\n[bold cyan]{number}[/] [bold]{name}[/]")
    said: list[str] = []
    started_s = time.perf_counter()
    yield said.append
    console.print(
        f"[green]✓[/] {', '.join(said) or 'done'} [dim]({time.perf_counter() - started_s:.1f} s)[/]"
    )


def _build(settings: Settings) -> None:
    from motoric.cli.ingest import build_on_ray
    from motoric.data.ingest.build import default_uri, unchanged
    from motoric.data.sources.catalogue import make_source

    with _stage("2/6", f"dataset {_NAME}: real smartwatch recordings") as say:
        source, uri = make_source(_NAME), default_uri(settings.storage_uri, _NAME)
        card = unchanged(source, uri)
        if card is not None:
            say("reused, nothing changed since it was built")
        else:
            card = build_on_ray(settings, source, uri).card
        say(
            f"{card.num_recordings} recordings, {card.duration_s / 60:.0f} minutes,"
            f" {len(card.recordings_by_label)} exercises, {len(card.recordings_by_subject)} people"
        )


def _train(settings: Settings, recipe: Recipe, *, reuse: bool) -> RegisteredVersion:
    from motoric.cli.train import run_training

    with _stage("3/6", f"train {_RECIPE} with Ray Train, and register it in MLflow") as say:
        kept = _find_trained(settings, recipe) if reuse else None
        if kept is not None:
            say(f"reused version {kept.version}: same recipe, same dataset")
            return kept
        trained = run_training(settings, recipe)
        assert trained.registered is not None
        return trained.registered


def _find_trained(settings: Settings, recipe: Recipe) -> RegisteredVersion | None:
    """The released version, if it was trained by this recipe on this dataset."""
    from motoric.artefact import files
    from motoric.core.errors import NotFoundError
    from motoric.data.dataset import open_dataset
    from motoric.registry.registry import Registry

    registry = Registry(settings.registry_uri, settings.storage_uri)
    try:
        found = registry.by_alias(_NAME, "champion")
    except NotFoundError:
        return None
    by_name, _ = files.read_sums(found.artefact_uri)
    trained_with = files.read_file(found.artefact_uri, files.RECIPE, by_name).decode()
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    same_data = found.figures.get("dataset_digest") == dataset.card.content_digest
    return found if same_data and trained_with == recipe.to_yaml() else None


def _deploy(settings: Settings) -> None:
    from motoric.cluster.deploy import deploy
    from motoric.serving.config import load_deployment

    with _stage("4/6", f"deploy {_DEPLOYMENT} on Ray Serve") as say:
        made = deploy(
            settings, load_deployment(_DEPLOYMENT), lambda text: console.print(f"[dim]  {text}[/]")
        )
        say(f"version {made.primary.version} answers at {settings.base_url}/v1/models/{_NAME}")


def _ask(settings: Settings, recipe: Recipe, version: RegisteredVersion) -> None:
    """Send all held-out windows over HTTP, and compare with the artefact run in this process."""
    from motoric.artefact.predictor import Predictor
    from motoric.cli.endpoint import open_client
    from motoric.data.dataset import open_dataset
    from motoric.training.partition import load_split

    with _stage("5/6", "held-out windows over HTTP, with an API key") as say:
        dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
        windows = load_split(recipe, dataset).test
        assert windows.windows_BTC is not None
        offline_BK = Predictor.load(version.artefact_uri).predict(windows.windows_BTC)
        with open_client(settings) as client:
            found = client.predict(_NAME, windows.windows_BTC)
        _print_predictions(windows, found)
        _compare(windows, offline_BK, list(found.labels))
        say(f"{len(windows)} windows asked")


def _watch(settings: Settings) -> str:
    """Video and sensors of a drawn figure: a dataset, clips by Ray Data, a contact sheet."""
    from motoric.cli.ingest import build_on_ray
    from motoric.cluster.session import ray_session
    from motoric.data.dataset import open_dataset
    from motoric.data.ingest.build import default_uri, unchanged
    from motoric.data.reading import read_clips
    from motoric.data.report.page import write_report
    from motoric.data.sources.catalogue import make_source

    with _stage("6/6", "video: a drawn (synthetic) figure, and a sensor on its wrist") as say:
        source, uri = make_source(_VIDEO_NAME), default_uri(settings.storage_uri, _VIDEO_NAME)
        labels: Counter[str] = Counter()
        with ray_session(settings):
            if unchanged(source, uri) is None:
                build_on_ray(settings, source, uri)
            started_s = time.perf_counter()
            clips = read_clips(uri, num_frames=_CLIP_FRAMES, length_s=_CLIP_S, hop_s=1.0)
            for batch in clips.iter_batches(batch_size=32):
                labels.update(batch["label"].tolist())
            elapsed_s = time.perf_counter() - started_s
        report = write_report(open_dataset(uri))
        found = ", ".join(f"{label} {count}" for label, count in sorted(labels.items()))
        console.print(f"clips of {_CLIP_FRAMES} frames by label: {found}")
        say(f"{labels.total()} clips of {_CLIP_S:g} s in {elapsed_s:.1f} s")
    return report


def _compare(windows: Examples, offline_BK: Probabilities, online: list[str]) -> None:
    true = np.array([windows.classes[index] for index in windows.targets_B])
    offline = np.array([windows.classes[index] for index in offline_BK.argmax(axis=1)])
    over_http = float((np.array(online) == true).mean())
    in_process = float((offline == true).mean())
    differing = int((np.array(online) != offline).sum())
    console.print(
        f"accuracy over HTTP [bold]{over_http:.2%}[/], offline {in_process:.2%},"
        f" on the same {len(windows)} windows of {', '.join(sorted(set(windows.subjects)))};"
        f" {differing} predictions differ"
    )
    if differing:
        raise MotoricError(f"{differing} predictions over HTTP differ from the artefact's own")


def _print_predictions(windows: Examples, predictions: Predictions) -> None:
    # Fits into 80 columns.
    table = Table(title="Some of them", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("person", "recording", "at (s)", "true", "predicted", "prob."):
        is_number = name in ("at (s)", "prob.")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    subject_B = np.array(windows.subjects)
    for subject in sorted(set(windows.subjects)):
        mine = np.flatnonzero(subject_B == subject)
        # Evenly over the person's windows, so that the picture is neither the best nor the worst.
        for index in mine[np.linspace(0, len(mine) - 1, _ROWS_A_PERSON).astype(int)].tolist():
            true, label = windows.classes[windows.targets_B[index]], predictions.labels[index]
            color = "green" if label == true else "red"
            table.add_row(
                subject,
                windows.recording_ids[index],
                f"{windows.start_s_B[index]:.0f}",
                true,
                f"[{color}]{label}[/]",
                f"{predictions.outputs_BK[index].max():.1%}",
            )
    console.print(table)


def _print_next(
    settings: Settings, version: RegisteredVersion, video_report: str, *, stays: bool
) -> None:
    report = storage.join(
        settings.storage_uri, "runs", version.figures.get("run", ""), "report", "report.html"
    )
    url = settings.base_url
    keep = f"motoric up && motoric deploy {_NAME}"
    lines = {
        "report with plots": report,
        "report of the video": video_report,
        "platform": "runs on; `motoric down` stops it" if stays else f"stopped; `{keep}` keeps one",
        "API docs": f"{url}/v1/models/{_NAME}/docs (while the platform runs)",
        "your own file": f"motoric predict {_NAME} FILE.csv (while the platform runs)",
        "registry page": "motoric models ui (MLflow, on http://127.0.0.1:5000)",
        "again, faster": "make demo REUSE=1",
    }
    console.print("\n[bold]Where to look next[/]")
    for name, text in lines.items():
        # Not in a box: addresses and paths are there to be copied.
        console.print(f"  [bold]{name:<20}[/] {escape(text)}", soft_wrap=True)
