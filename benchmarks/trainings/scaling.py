"""Two workers against one on the video recipe, and the time that steps wait for clips."""

from __future__ import annotations

import statistics
from pathlib import Path

from trainings.data import VIDEO, recipe_of
from trainings.epochs import ALL_CORES, Epoch, Team
from trainings.figures import percent, ratios, say, spread, table, times

_NUM_CLIPS = 96
_ASKED, _ASKED_WAITING = 1.7, 0.05
_CPU = Path("/sys/devices/system/cpu")


def measure(dataset_uri: str, num_rounds: int) -> str:
    """One worker, two by ddp over gloo, and two that know nothing of each other."""
    recipe = recipe_of(VIDEO, dataset_uri)
    half = recipe_of(VIDEO, dataset_uri, [f"train.batch_size={recipe.train.batch_size // 2}"])
    one, two = Team(recipe, _NUM_CLIPS), Team(recipe, _NUM_CLIPS, num=2)
    left, right = (Team(half, _NUM_CLIPS // 2) for _ in range(2))
    with one, two, left, right:
        alone: list[float] = []
        shared: list[float] = []
        apart: list[float] = []
        pinned: list[float] = []
        for _ in range(num_rounds):
            alone.append(one.epoch()[0].windows_per_s)
            shared.append(min(each.windows_per_s for each in two.epoch()))
            left.ask()
            right.ask()
            apart.append(sum(team.answer()[0].windows_per_s for team in (left, right)))
            pinned.append(one.epoch(ALL_CORES[:1])[0].windows_per_s)
            say(f"scaling: {alone[-1]:.1f}, {shared[-1]:.1f}, {apart[-1]:.1f}, {pinned[-1]:.1f}")
    names = {
        "one worker": alone,
        "one worker kept on one core": pinned,
        "two workers, ddp over gloo": shared,
        "two processes apart, nothing exchanged": apart,
    }
    rows = [
        [
            name,
            *spread(found, lambda rate: f"{rate:.1f}"),
            *("" if found is alone else cell for cell in spread(ratios(found, alone), times)),
            spread(ratios(found, pinned), times)[0],
        ]
        for name, found in names.items()
    ]
    reached = statistics.median(ratios(shared, apart))
    columns = "|clips/s|range|times one worker|range|times one worker on one core"
    return (
        f"### scaling: {VIDEO}, batch {recipe.train.batch_size}, one torch thread a worker\n\n"
        f"{table(rows, columns)}\n\n"
        f"Asked: two workers at least {_ASKED} times one. {_cores()} Two processes that exchange"
        " nothing, each with a worker's half of the batch, are what these cores can give:"
        f" ddp reaches **{reached:.1%}** of it. One worker's batches are made in a thread, which"
        " takes of the second core; kept on one core it has none of it."
    )


def measure_waiting(dataset_uri: str, num_rounds: int) -> str:
    """Of the time of steps, how much they wait for their data."""
    recipe = recipe_of(VIDEO, dataset_uri)
    found: dict[str, list[Epoch]] = {}
    one, two = Team(recipe, _NUM_CLIPS), Team(recipe, _NUM_CLIPS, num=2)
    with one, two:
        for _ in range(num_rounds):
            for name, team, cores in (
                ("one worker", one, ALL_CORES),
                ("one worker kept on one core", one, ALL_CORES[:1]),
                ("two workers", two, ALL_CORES),
            ):
                worst = max(team.epoch(cores), key=lambda each: each.waiting_share)
                found.setdefault(name, []).append(worst)
    rows = [
        [
            name,
            *spread([each.waiting_share for each in epochs], percent),
            spread([each.windows_per_s for each in epochs], lambda rate: f"{rate:.1f}")[0],
        ]
        for name, epochs in found.items()
    ]
    say(f"waiting: {rows}")
    steps = _NUM_CLIPS // recipe.train.batch_size
    return (
        f"### waiting: {VIDEO}, share of the steps' time that they wait for data\n\n"
        f"{table(rows, '|waiting|range|clips/s')}\n\n"
        f"Asked: under {_ASKED_WAITING:.0%}. As `EpochReport` has it, of the worker that waits"
        f" longest; epochs of {steps} steps, whose first waits for the whole of its batch. Clips"
        " are in memory, as a worker holds them once it has read its videos; augmentation and"
        " normalising are what is waited for."
    )


def _cores() -> str:
    """What the system says of cores that are not whole ones."""
    place = _CPU / f"cpu{ALL_CORES[0]}" / "topology" / "thread_siblings_list"
    siblings = place.read_text().strip() if place.exists() else ""
    if len(ALL_CORES) == 1:
        return "There is one core."
    if siblings in ("", str(ALL_CORES[0])):
        return "The system shows its cores as whole ones; what lies below it may not be."
    return f"Cores {siblings} are threads of one physical core."
