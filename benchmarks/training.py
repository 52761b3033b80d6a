"""Training measured: a step beside a plain loop, two workers, waiting for data, the start.

    python benchmarks/training.py                         # all; about ten minutes on two cores
    python benchmarks/training.py --only step,start --rounds 2 --no-results

Recipes are those of jobs/recipes, data is made up. Rounds are interleaved; medians and ranges go to
RESULTS.md. Needs the extras train and bench.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from results import append, circumstances
from trainings.data import write_sensors
from trainings.figures import say

from trainings import scaling, start, step

SCENARIOS = {
    "step": "a step through Motoric beside the same in a plain torch loop",
    "ray": "the same on Ray Train's worker, by `motoric train`",
    "scaling": "two workers against one on the video recipe",
    "waiting": "the share of the time that the video recipe waits for data",
    "start": "from `motoric train` to the first step",
}
PACKAGES = ("torch", "ray", "numpy")
# More of a load before the run is of something else.
_BUSY = 0.5


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="; ".join(f"{name}: {what}" for name, what in SCENARIOS.items()),
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved; medians are reported")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, by commas")
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md alone")
    arguments = parser.parse_args()
    wanted = [part.strip() for part in arguments.only.split(",") if part.strip()]
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown or not wanted:
        parser.error(f"--only {arguments.only!r}: choose of {', '.join(SCENARIOS)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: at least 1")
    # So that what was started ends with this, also where it is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    load_before = os.getloadavg()
    # Short, since sockets of Ray lie below it.
    with tempfile.TemporaryDirectory(
        prefix="mtb", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        say("writing the data")
        uri = write_sensors(Path(folder))
        sections = [
            _measure(name, Path(folder), uri, arguments.rounds)
            for name in SCENARIOS
            if name in wanted
        ]
    text = _report(sections, arguments.rounds, load_before)
    print(text)
    if not arguments.no_results:
        append(text)


def _measure(name: str, folder: Path, dataset_uri: str, num_rounds: int) -> str:
    say(name)
    if name == "step":
        return step.measure(dataset_uri, num_rounds)
    if name == "ray":
        return step.measure_on_ray(folder, dataset_uri, num_rounds)
    if name == "scaling":
        return scaling.measure(dataset_uri, num_rounds)
    if name == "waiting":
        return scaling.measure_waiting(dataset_uri, num_rounds)
    return start.measure(folder, dataset_uri, num_rounds)


def _report(sections: list[str], num_rounds: int, load_before: tuple[float, ...]) -> str:
    quiet = (
        f"- Not quiet: the load was {load_before[0]:.2f} before the run, so something else took"
        " part of the cores."
    )
    return "\n".join(
        [
            f"## training, {datetime.now(tz=UTC):%Y-%m-%d}",
            "",
            f"Medians of {num_rounds} interleaved rounds, with their ranges. Ratios are of each"
            " round.",
            "",
            *(line for section in sections for line in (section, "")),
            *([quiet] if load_before[0] > _BUSY else []),
            *circumstances(PACKAGES, script="training.py", load_before=load_before),
        ]
    )


if __name__ == "__main__":
    main()
