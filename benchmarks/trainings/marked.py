"""`motoric train` that writes down when each of its parts begins and ends, until its first step.

    TRAIN_MARKS=FILE python -m trainings.marked train RECIPE

Lines are a name and the time. Modules are imported in the order of whose they are, so that their
times can be told apart; the parts of Motoric are wrapped, and otherwise as they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

MARKS = "TRAIN_MARKS"


def mark(name: str) -> None:
    """Write down that it is so far, in whichever process."""
    line = f"{name} {time.time():.6f}\n".encode()
    file = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def around(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with marks before and after."""

    @wraps(work)
    def marked(*arguments: Any, **named: Any) -> Any:
        mark(f"{name}_begins")
        try:
            return work(*arguments, **named)
        finally:
            mark(f"{name}_ends")

    return marked


def wrap(module: ModuleType, function: str, name: str) -> None:
    """Put marks around a function where a module calls it."""
    vars(module)[function] = around(name, vars(module)[function])


def train_worker(config: dict[str, Any]) -> None:
    """What Ray Train's worker runs."""
    mark("worker_begins")
    from motoric.training import ray_worker
    from motoric.training.descent import Descent

    mark("worker_imported")
    own: Any = Descent
    original, first = own._step, around("step", own._step)

    def step(*arguments: Any) -> Any:
        own._step = original
        return first(*arguments)

    own._step = step
    wrap(ray_worker, "load_split", "worker_reading")
    ray_worker.train_worker(config)


def main() -> int:
    """Import, wrap, run."""
    mark("python")
    import torch  # noqa: F401

    mark("torch")
    import ray
    import ray.train.torch

    mark("ray")
    import motoric.workflows.train as workflow
    from motoric.cli.main import main as command
    from motoric.training import trainer

    mark("motoric")
    wrap(ray, "init", "init")
    wrap(workflow, "load_split", "reading")
    wrap(workflow, "train", "train")
    wrap(trainer, "_run", "fit")
    vars(trainer)["train_worker"] = train_worker
    return command()


if __name__ == "__main__":
    # By its name: a worker that gets a function of `__main__` would get a copy of it.
    from trainings import marked

    raise SystemExit(marked.main())
