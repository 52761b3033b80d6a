"""`motoric evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from motoric.cli.console import TrainingDisplay, console
from motoric.cli.evaluation import print_evaluation, print_timeline_scores
from motoric.cli.train import RecipeArgument, SetOption
from motoric.core.errors import UserError
from motoric.core.settings import load


def evaluate(
    recipe: RecipeArgument,
    set_: SetOption = None,
    protocol: Annotated[
        Literal["hold_out", "group_k_fold", "leave_one_out"],
        typer.Option(
            help="Who is tested: the recipe's own test people, or everybody in turn by folds or"
            " one by one."
        ),
    ] = "hold_out",
    folds: Annotated[int, typer.Option(min=2, help="Folds of group_k_fold.")] = 5,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of the training, from the recipe's upwards.")
    ] = 1,
    training_people_only: Annotated[
        bool,
        typer.Option(
            "--training-people-only",
            help="Leave the recipe's test people out altogether: choose settings this way.",
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train folds again that were done before.")
    ] = False,
    timelines: Annotated[
        bool,
        typer.Option(
            "--timelines", help="Make timelines of long recordings too, and score their segments."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures here too, as JSON.")] = None,
) -> None:
    """Cross-validate a recipe on people that training never saw; nothing is registered.

    Each fold is a Ray task, so they run side by side where there are CPUs. A fold that was done
    is reused, so an interrupted evaluation goes on where it stopped.

    Example: motoric evaluate jobs/recipes/watch_gru.yaml --protocol leave_one_out --seeds 3
    """
    from motoric.cluster.session import ray_session
    from motoric.training.recipe import load_recipe
    from motoric.workflows.evaluate import EvaluationPlan, evaluate_recipe

    settings, parsed = load(), load_recipe(recipe, tuple(set_ or ()))
    if training_people_only and protocol == "hold_out":
        raise UserError(
            "--training-people-only leaves the test people of hold_out out: add --protocol"
            " group_k_fold or leave_one_out"
        )
    plan = EvaluationPlan(
        protocol=protocol,
        num_folds=folds,
        num_seeds=seeds,
        training_people_only=training_people_only,
        fresh=fresh,
        timelines=timelines,
    )
    with TrainingDisplay() as display:
        display.on_stage("connecting to Ray")
        with ray_session(settings, num_cpus=_num_cpus(parsed.resources.cpus_per_worker)):
            found = evaluate_recipe(parsed, plan, settings, display)
    tested_on = parsed.tested_on
    if training_people_only:
        tested_on += ", the recipe's own test people left out"
    print_evaluation(found.evaluation, tested_on, found.leaks)
    if found.timeline is not None and found.unsmoothed is not None:
        print_timeline_scores(found.timeline, found.unsmoothed)
    if found.num_reused:
        console.print(f"[dim]{found.num_reused} fold(s) were done before; --fresh trains them[/]")
    console.print(f"run        {found.run_id}")
    console.print(f"report     {found.report_uri}", soft_wrap=True)
    if out is not None:
        out.write_text(json.dumps(found.evaluation.model_dump(mode="json"), indent=1) + "\n")


def _num_cpus(per_fold: float) -> int:
    import os

    return max(int(per_fold) + 1, os.cpu_count() or 1)
