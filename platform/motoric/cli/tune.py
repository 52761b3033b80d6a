"""`motoric tune`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console
from motoric.cli.train import SetOption
from motoric.core.errors import UserError
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.training.recipe import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def tune(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="Recipe with a `search:`; may be left out with --resume."),
    ] = None,
    set_: SetOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the search; by default one is made.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with a search that was cut short."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the best recipe here too, and the report beside it (.html)."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be searched and what it costs; no Ray."),
    ] = False,
) -> None:
    """Search for the best values of a recipe: trials side by side, the bad ones ended early.

    The recipe's `search:` names keys and ranges. Each trial trains as `motoric train` does, on the
    same people, and is compared on the validation people; the test people are not looked at.
    Nothing is registered: train the best recipe for that.

    Example:
    motoric tune jobs/recipes/watch_search.yaml --dry-run

    motoric tune jobs/recipes/watch_search.yaml --out best.yaml

    motoric tune jobs/recipes/watch_search.yaml --set search.num_trials=40 --name night

    motoric tune --resume night
    """
    settings = load()
    parsed = _recipe(settings, recipe, set_, resume)
    if resume is not None and name is not None:
        raise UserError("--resume names the search: leave --name out")
    if name is not None and not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r}: letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
        )
    if dry_run:
        _dry_run(settings, parsed)
    else:
        _search(settings, parsed, resume or name, out, is_resumed=resume is not None)


def _recipe(
    settings: Settings, path: Path | None, set_: list[str] | None, resume: str | None
) -> Recipe:
    from motoric.training.recipe import load_recipe
    from motoric.workflows.tune import search_of, stored_recipe

    if path is not None:
        parsed = load_recipe(path, tuple(set_ or ()))
    elif resume is None:
        raise UserError("name a recipe, such as jobs/recipes/watch_search.yaml, or --resume NAME")
    elif set_:
        raise UserError("--set changes a recipe that is named: name it before --resume")
    else:
        parsed = stored_recipe(settings, resume)
    search_of(parsed)
    return parsed


def _search(
    settings: Settings, recipe: Recipe, name: str | None, out: Path | None, *, is_resumed: bool
) -> None:
    from motoric.cli.tune_display import SearchDisplay, print_search
    from motoric.cluster.session import ray_session
    from motoric.training.trainer import new_run_id
    from motoric.workflows.machines import this_machine
    from motoric.workflows.tune import tune_recipe

    name = name or new_run_id(recipe)
    if not is_resumed:
        console.print(
            f"search     {name} [dim](if it is cut short: motoric tune --resume {name})[/]",
            soft_wrap=True,
        )
    num_cpus = int(recipe.resources.min_workers * recipe.resources.cpus_per_worker)
    with SearchDisplay() as display:
        display.on_stage("connecting to Ray")
        with ray_session(settings, num_cpus=max(num_cpus, this_machine().num_cpus)):
            found = tune_recipe(recipe, settings, display, name=name, resume=is_resumed)
    print_search(found)
    if found.num_reused:
        console.print(f"[dim]{found.num_reused} trial(s) were finished before[/]")
    best = f"{found.folder_uri}/best.yaml"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(found.best_yaml)
        out.with_suffix(".html").write_text(found.report_html)
        best = str(out)
    console.print(f"best       {best}", soft_wrap=True, markup=False)
    console.print(f"report     {found.folder_uri}/report.html", soft_wrap=True, markup=False)
    console.print(f"next: motoric train {best}", soft_wrap=True, markup=False)


def _dry_run(settings: Settings, recipe: Recipe) -> None:
    from motoric.cli.dry_run import duration, print_dry_run
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.dry_run import dry_run
    from motoric.training.tuning.search import longest_trial
    from motoric.training.tuning.space import num_trials, random_values
    from motoric.training.tuning.trials import expected_epochs, rungs
    from motoric.workflows.machines import this_machine

    assert recipe.search is not None
    search = recipe.search
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    with console.status("one batch forward and back"):
        found = dry_run(recipe, dataset)
    print_dry_run(found, recipe)
    table = Table(title="what is searched", title_justify="left")
    table.add_column("key", no_wrap=True)
    for heading in ("values", "in the recipe", "first trials"):
        table.add_column(heading, overflow="fold")
    content = recipe.model_dump(mode="json")
    num = num_trials(search)
    for key, values in search.space.items():
        first = "drawn by optuna"
        if search.algorithm == "random":
            drawn = [random_values(search, number)[key] for number in range(min(3, num))]
            first = ", ".join(str(value) for value in drawn)
        table.add_row(escape(key), escape(str(values)), escape(str(_value(content, key))), first)
    console.print(table)
    longest = longest_trial(recipe)
    each = expected_epochs(search, longest)
    decided = ", ".join(f"{rung:g}" for rung in rungs(search, longest)) or "none"
    num_cpus = recipe.resources.min_workers * recipe.resources.cpus_per_worker
    at_once = search.max_concurrent or max(1, int(this_machine().num_cpus // num_cpus))
    time_s = found.training_s / recipe.train.epochs * each * num / min(at_once, num)
    console.print(f"trials     {num}, by {search.metric}, {search.algorithm}, seed {search.seed}")
    if num < search.num_trials:
        console.print(
            f"[dim]search.num_trials is {search.num_trials}, but there are {num} combinations[/]"
        )
    console.print(
        f"epochs     at most {num * longest}; about {num * each:.0f} as ASHA stops trials after"
        f" epoch {decided}, where the best 1/{search.reduction_factor:g} go on"
    )
    console.print(
        f"time       about {duration(time_s)} with {min(at_once, num)} at once on machines like"
        " this one, without the start of Ray"
    )


def _value(content: dict[str, object], key: str) -> object:
    place: object = content
    for part in key.split("."):
        place = place.get(part, "its default") if isinstance(place, dict) else "its default"
    return place
