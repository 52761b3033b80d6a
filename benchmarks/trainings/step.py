"""A step through Motoric beside the same step in a plain loop, and on Ray Train's worker."""

from __future__ import annotations

from pathlib import Path

from trainings.command import Command, write_recipe
from trainings.data import SENSORS, VIDEO, recipe_of
from trainings.epochs import ALL_CORES, Epoch, Team
from trainings.figures import milliseconds, ratios, say, spread, table, times

from motoric.core import storage
from motoric.data.dataset import open_dataset
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe, load_recipe

_NUM_CLIPS = 48
_RAY_EPOCHS, _ENDLESS = 4, 1000
_ASKED = 1.05
_COLUMNS = "recipe|Motoric's step by|plain ms|range|Motoric ms|range|step, times plain|range"


def measure(dataset_uri: str, num_rounds: int) -> str:
    """Two recipes, each in processes of its own."""
    rows: list[list[str]] = []
    for name in (SENSORS, VIDEO):
        recipe = recipe_of(name, dataset_uri)
        plain, motoric = Team(recipe, _NUM_CLIPS, is_plain=True), Team(recipe, _NUM_CLIPS)
        with plain, motoric:
            rows += [
                _side_by_side(plain, motoric, cores, num_rounds, name)
                for cores in (ALL_CORES, ALL_CORES[:1])
            ]
    return (
        "### step: a training step beside the same in a plain torch loop\n\n"
        f"{table(rows, f'{_COLUMNS}|epoch, times plain')}\n\n"
        f"Asked: at most {_ASKED} times. One torch thread each; network, batch, augmentation,"
        " AdamW, clipping and schedule of the recipe, no validation. Motoric is `fit`, the loop"
        " that a worker runs, in a process of its own, in turn with the plain loop by epochs; it"
        " makes the next batch in a thread beside the step, which is why one core is shown too. A"
        " step of Motoric is timed by itself (`EpochReport`); the last column is all between two"
        " epochs' ends by the step, copying the weights included."
    )


def measure_on_ray(folder: Path, dataset_uri: str, num_rounds: int) -> str:
    """The recipe of sensors by `motoric train`."""
    recipe = recipe_of(SENSORS, dataset_uri)
    alone: list[float] = []
    ours: list[Epoch] = []
    with Team(recipe, 0, is_plain=True) as plain:
        for number in range(num_rounds):
            alone += [one.step_s for _ in range(2) for one in plain.epoch()]
            # A home of its own, in which this run is the only one.
            ours += [_epoch(report, recipe) for report in _run(folder / f"ray{number}", recipe)]
            say(f"ray: {alone[-1]:.3f} s plain, {ours[-1].step_s:.3f} s")
        alone += [one.step_s for _ in range(2) for one in plain.epoch()]
    row = _row(SENSORS, "motoric train, Ray Train's worker", alone, ours)[:-1]
    return (
        "### ray: the same on Ray Train's worker\n\n"
        f"{table([row], _COLUMNS)}\n\n"
        f"Runs of `motoric train` with {_RAY_EPOCHS} epochs, of which the first is left out, live"
        " display, tracking and checkpoints on, between epochs of the plain loop. Steps are timed"
        " in the worker (`EpochReport`); Ray's processes and the command share the cores with it."
        " Ratios are to the median of the plain loop."
    )


def _side_by_side(
    plain: Team, motoric: Team, cores: tuple[int, ...], num_rounds: int, name: str
) -> list[str]:
    alone: list[Epoch] = []
    ours: list[Epoch] = []
    for _ in range(num_rounds):
        alone += plain.epoch(cores)
        ours += motoric.epoch(cores)
    where = "fit, any core" if len(cores) > 1 else "fit, both loops on one core"
    say(f"step, {name}, {where}: {alone[-1].step_s:.3f} s plain, {ours[-1].step_s:.3f} s")
    return _row(name, where, [one.step_s for one in alone], ours)


def _run(home: Path, recipe: Recipe) -> list[EpochReport]:
    """What the worker of a run reported, but for the first epoch."""
    path = write_recipe(home, recipe, epochs=_ENDLESS)
    with Command(home, ["jobs/train.py", str(path)]) as command:
        command.wait_for_line(f"epoch {_RAY_EPOCHS}/{_ENDLESS}  loss")
    uri = str(home / "home" / "storage" / "runs")
    (run,) = [name for name in storage.list_names(uri) if name.startswith(recipe.name)]
    found = load_recipe(path)
    checkpoints = Checkpoints(
        storage.join(uri, run), identity_of(found, open_dataset(found.dataset))
    )
    name = checkpoints.newest()
    assert name is not None, "an epoch has ended, so there is a checkpoint"
    return list(checkpoints.read(name).position.history[1:])


def _epoch(report: EpochReport, recipe: Recipe) -> Epoch:
    step_s = recipe.train.batch_size / report.windows_per_s
    return Epoch(
        step_s=step_s,
        whole_s=step_s,
        windows_per_s=report.windows_per_s,
        waiting_share=report.waiting_share,
    )


def _row(name: str, where: str, alone: list[float], ours: list[Epoch]) -> list[str]:
    steps = [one.step_s for one in ours]
    is_paired = len(alone) == len(ours)
    middle = sorted(alone)[len(alone) // 2]
    found = ratios(steps, alone) if is_paired else [step / middle for step in steps]
    whole = ratios([one.whole_s for one in ours], alone) if is_paired else []
    return [
        name,
        where,
        *spread(alone, milliseconds),
        *spread(steps, milliseconds),
        *spread(found, times),
        spread(whole, times)[0] if whole else "",
    ]
