"""`motoric train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motoric.cli.console import TrainingDisplay, console, errors
from motoric.cli.evaluation import print_evaluation
from motoric.core.errors import UserError
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
    recipe: Annotated[
        Path | None,
        typer.Argument(help="Recipe, such as jobs/recipes/watch_inception.yaml."),
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check recipe, data and memory with one batch; no Ray."),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run that was stopped, from its last checkpoint: its name, or the"
            " beginning of it. --set may change its resources and strategy.",
        ),
    ] = None,
) -> None:
    """Train a recipe, evaluate it on unseen people, export and register it.

    Uses the running local platform when there is one, else a Ray of its own.

    Example: motoric train jobs/recipes/watch_gru.yaml --set train.epochs=3
    """
    from motoric.training.recipe import load_recipe

    settings, overrides = load(), tuple(set_ or ())
    if resume is not None:
        if recipe is not None or dry_run:
            raise UserError("--resume takes the run's own recipe: leave out RECIPE and --dry-run")
        _resume(settings, resume, overrides)
    elif recipe is None:
        raise UserError("name a recipe to train, or a run to go on with: --resume RUN")
    elif dry_run:
        _dry_run(settings, load_recipe(recipe, overrides))
    else:
        run_training(settings, load_recipe(recipe, overrides))


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
    from motoric.workflows.train import train_model

    if recipe.search is not None:
        console.print("[dim]`search:` is for motoric tune; this trains the recipe as it is[/]")
    return _run(settings, recipe, lambda display: train_model(recipe, settings, display))


def _resume(settings: Settings, name: str, overrides: tuple[str, ...]) -> None:
    from motoric.workflows.saved_run import find_run
    from motoric.workflows.train import resume_model

    run = find_run(name, settings.storage_uri, overrides)
    _run(settings, run.recipe, lambda display: resume_model(run, settings, display))


def _run(
    settings: Settings, recipe: Recipe, work: Callable[[TrainingDisplay], TrainedModel]
) -> TrainedModel:
    from motoric.cluster.session import ray_session
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.inputs import model_inputs
    from motoric.training.partition import plan_split

    # What can be refused is refused before Ray is started.
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    plan_split(recipe, model_inputs(recipe, dataset))
    workers = recipe.resources.min_workers
    num_cpus = int(workers * recipe.resources.cpus_per_worker) + 2
    with TrainingDisplay() as display:
        display.on_stage("connecting to Ray")
        try:
            with ray_session(settings, num_cpus=num_cpus):
                trained = work(display)
        except KeyboardInterrupt:
            if display.run_id is not None:
                hint = f"motoric train --resume {display.run_id}"
                errors.print(f"stopped: `{hint}` goes on from the last checkpoint", soft_wrap=True)
            raise
    _print(trained, recipe)
    return trained


def _print(trained: TrainedModel, recipe: Recipe) -> None:
    print_evaluation(trained.evaluation, recipe.tested_on, trained.leaks)
    if trained.registered is not None:
        found = trained.registered
        aliases = ", ".join(found.aliases) or "no alias"
        console.print(f"registered [bold]{found.model}[/] version {found.version} ({aliases})")
    console.print(f"run        {trained.run_id}")
    console.print(f"artefact   {trained.artefact_uri}", soft_wrap=True)
    console.print(f"report     {trained.report_uri}", soft_wrap=True)
