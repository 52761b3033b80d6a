"""From `motoric train` to the end of the first step, by parts."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from trainings.command import Command, write_recipe
from trainings.data import SENSORS, recipe_of
from trainings.figures import say, spread, table
from trainings.marked import MARKS

# Each part ends with a mark, and begins with the one before.
_PARTS = (
    ("python", "Python", "start of the interpreter"),
    ("torch", "torch", "import"),
    ("ray", "Ray", "import, with Ray Train"),
    ("motoric", "Motoric", "import of all else: pydantic, pyarrow, MLflow, the command line"),
    ("init_begins", "Motoric", "recipe, dataset and split checked"),
    ("init_ends", "Ray", "`ray.init`: GCS, raylet, object store"),
    ("reading_begins", "Motoric", "dataset opened"),
    ("reading_ends", "Motoric", "examples read by the command, which tests on them later"),
    ("train_begins", "Motoric", "tracking: MLflow's database made, the run written down"),
    (
        "fit_begins",
        "Motoric",
        "room in the cluster, checkpoints, the queue for progress (an actor)",
    ),
    ("worker_begins", "Ray", "Ray Train: controller, worker's process, torch there, process group"),
    ("worker_imported", "Motoric", "import in the worker"),
    ("worker_reading_begins", "Motoric", "storage checked, dataset opened"),
    ("worker_reading_ends", "Motoric", "examples read by the worker"),
    ("step_begins", "Motoric", "network, optimiser, first batch"),
    ("step_ends", "torch", "first step"),
)


def measure(folder: Path, dataset_uri: str, num_rounds: int) -> str:
    """Start it as often as there are rounds, each time with a new home."""
    recipe = recipe_of(SENSORS, dataset_uri)
    rounds = []
    for number in range(num_rounds):
        home = folder / f"start{number}"
        path = write_recipe(home, recipe, epochs=1000)
        marks = home / "marks"
        more = {MARKS: str(marks), "PYTHONPATH": _path()}
        with Command(home, ["-m", "trainings.marked", "train", str(path)], more) as command:
            began_s = command.began_s
            command.wait_for_mark(marks, "step_ends ")
        rounds.append(_parts(began_s, marks.read_text()))
        say(f"start: {sum(rounds[-1].values()):.1f} s")
    totals = [sum(one.values()) for one in rounds]
    total_s = statistics.median(totals)
    rows = []
    for mark, whose, what in _PARTS:
        found = [one[mark] for one in rounds]
        share = statistics.median(found) / total_s
        rows.append([what, whose, *spread(found, lambda value: f"{value:.2f}"), f"{share:.0%}"])
    sums = []
    for name in ("Ray", "Motoric", "torch", "Python"):
        own = [sum(one[mark] for mark, whose, _ in _PARTS if whose == name) for one in rounds]
        sums.append(f"{name} {statistics.median(own):.1f} s")
    middle, extent = spread(totals, lambda value: f"{value:.1f}")
    return (
        "### start: from `motoric train` to the end of the first step\n\n"
        f"{table(rows, 'part|whose|s|range|of all')}\n\n"
        f"**{middle} s** in all ({extent}), of it {', '.join(sums)}. {SENSORS}, no platform"
        " running, a home that is new; files are in the page cache. Ray Train's part has in it"
        " what its controller and worker import of Motoric and torch, which cannot be told apart"
        " from outside."
    )


def _path() -> str:
    """So that a worker finds what it is to run."""
    here = str(Path(__file__).parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _parts(began_s: float, text: str) -> dict[str, float]:
    """Seconds of each part by its last mark; a mark that was made twice counts as first made."""
    at: dict[str, float] = {}
    for line in text.splitlines():
        name, value = line.split()
        at.setdefault(name, float(value))
    found, before_s = {}, began_s
    for mark, _, _ in _PARTS:
        found[mark] = at[mark] - before_s
        before_s = at[mark]
    return found
