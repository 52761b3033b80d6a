"""How the learning rate moves: a function of the step alone, so that a run can go on anywhere."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from motoric.training.recipe import Recipe


def make_scheduler(recipe: Recipe, optimiser: Optimizer, total_steps: int) -> LRScheduler:
    """The schedule of a recipe, before the first step.

    `one_cycle` is Smith and Topin 2017 (arXiv 1708.07120), `cosine` Loshchilov and Hutter 2016
    (arXiv 1608.03983) without restarts, after a linear warm-up.

    Args:
        recipe: Its schedule and learning rate.
        optimiser: With the learning rate of the recipe.
        total_steps: Of the whole run.
    """
    schedule = recipe.schedule
    if schedule.name == "one_cycle" and total_steps > 1:
        return OneCycleLR(optimiser, max_lr=recipe.optimiser.learning_rate, total_steps=total_steps)
    if schedule.name == "cosine":
        warmup = round(schedule.warmup_share * total_steps)
        final = schedule.final_share

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            share = min(1.0, (step - warmup) / max(1, total_steps - warmup))
            return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

        return LambdaLR(optimiser, factor)
    return LambdaLR(optimiser, lambda _: 1.0)


def place(scheduler: LRScheduler, num_steps: int) -> None:
    """Set a schedule, and with it the optimiser, to where it stands after `num_steps` steps."""
    if num_steps == 0:
        return
    # Else torch warns of steps it did not see.
    scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]
    scheduler.load_state_dict(
        scheduler.state_dict() | {"last_epoch": num_steps - 1, "_step_count": num_steps + 1}
    )
    scheduler.step()
