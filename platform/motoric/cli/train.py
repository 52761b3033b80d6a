"""`motoric train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motoric.cli.console import TrainingDisplay, console
from motoric.cli.evaluation import print_evaluation
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.training.recipe import Recipe
    from motoric.workflows.train import TrainedModel

RecipeArgument = Annotated[
    Path, typer.Argument(help="Recipe, such as jobs/recipes/watch_inception.yaml.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe; repeatable."),
]


def train(
    recipe: RecipeArgument,
    set_: SetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check recipe, data and memory with one batch; no Ray."),
    ] = False,
) -> None:
    """Train a recipe, evaluate it on unseen people, export and register it.

    Uses the running local platform when there is one, else a Ray of its own.

    Example: motoric train jobs/recipes/watch_gru.yaml --set train.epochs=3
    """
    from motoric.training.recipe import load_recipe

    settings, parsed = load(), load_recipe(recipe, tuple(set_ or ()))
    if dry_run:
        _dry_run(settings, parsed)
    else:
        run_training(settings, parsed)


def _dry_run(settings: Settings, recipe: Recipe) -> None:
    from motoric.cli.dry_run import print_dry_run
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.dry_run import dry_run

    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    with console.status("one batch forward and back"):
        found = dry_run(recipe, dataset)
    print_dry_run(found, recipe)


def run_training(settings: Settings, recipe: Recipe) -> TrainedModel:
    """Run a checked recipe with a live display, and print what came out."""
    from motoric.cluster.session import ray_session
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.inputs import model_inputs
    from motoric.training.partition import plan_split
    from motoric.workflows.train import train_model

    # What can be refused is refused before Ray is started.
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    plan_split(recipe, model_inputs(recipe, dataset))
    workers = recipe.resources.num_workers
    num_cpus = int(workers * recipe.resources.cpus_per_worker) + 2
    with TrainingDisplay() as display:
        display.on_stage("connecting to Ray")
        with ray_session(settings, num_cpus=num_cpus):
            trained = train_model(recipe, settings, display)
    print_evaluation(trained.evaluation, recipe.tested_on, trained.leaks)
    if trained.registered is not None:
        found = trained.registered
        aliases = ", ".join(found.aliases) or "no alias"
        console.print(f"registered [bold]{found.model}[/] version {found.version} ({aliases})")
    console.print(f"run        {trained.run_id}")
    console.print(f"artefact   {trained.artefact_uri}", soft_wrap=True)
    console.print(f"report     {trained.report_uri}", soft_wrap=True)
    return trained
