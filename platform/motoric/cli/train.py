"""`motoric train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from motoric.cli.console import TrainingDisplay, console
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.training.evaluation import Evaluation
    from motoric.training.recipe import Recipe
    from motoric.workflows.train import TrainedModel


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as jobs/recipes/watch_gru.yaml.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a value of the recipe; repeatable."
        ),
    ] = None,
) -> None:
    """Train a recipe, evaluate it on unseen people, export and register it.

    Uses the running local platform when there is one, else a Ray of its own.

    Example: motoric train jobs/recipes/watch_gru.yaml --set train.epochs=3
    """
    from motoric.training.recipe import load_recipe

    run_training(load(), load_recipe(recipe, tuple(set_ or ())))


def run_training(settings: Settings, recipe: Recipe) -> TrainedModel:
    """Run a checked recipe with a live display, and print what came out."""
    from motoric.cluster.session import ray_session
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.windows import check_split
    from motoric.workflows.train import train_model

    # What can be refused is refused before Ray is started.
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    check_split(recipe, dataset)
    workers = recipe.resources.num_workers
    num_cpus = int(workers * recipe.resources.cpus_per_worker) + 2
    with TrainingDisplay() as display:
        display.on_stage("connecting to Ray")
        with ray_session(settings, num_cpus=num_cpus):
            trained = train_model(recipe, settings, display)
    print_evaluation(trained.evaluation, recipe.tested_on)
    if trained.registered is not None:
        found = trained.registered
        aliases = ", ".join(found.aliases) or "no alias"
        console.print(f"registered [bold]{found.model}[/] version {found.version} ({aliases})")
    console.print(f"artefact   {trained.artefact_uri}", soft_wrap=True)
    console.print(f"report     {trained.report_uri}", soft_wrap=True)
    return trained


def print_evaluation(evaluation: Evaluation, tested_on: str) -> None:
    """Print the per-subject table of an evaluation."""
    table = Table(title=f"Accuracy on {tested_on}", title_justify="left")
    table.add_column("person")
    for name in ("windows", "accuracy", "whole recordings"):
        table.add_column(name, justify="right")
    for score in evaluation.subjects:
        table.add_row(
            score.subject,
            str(score.num_windows),
            f"{score.accuracy:.1%}",
            f"{score.recording_accuracy:.1%}",
        )
    table.add_section()
    table.add_row(
        "all",
        str(evaluation.num_windows),
        f"{evaluation.accuracy:.1%}",
        f"{evaluation.recording_accuracy:.1%}",
    )
    console.print(table)
