"""The gradients of one step, added up over its parts; what every strategy does alike.

Axes: B examples, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from motoric.core.errors import RecipeError
from motoric.training.batches import Batch
from motoric.training.prefetch import Drawn
from motoric.training.run import Run, diverged


def add_gradients(
    run: Run,
    network: nn.Module,
    drawn: Drawn,
    *,
    place: tuple[int, int],
    around: Callable[[bool], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> float:
    """Run the parts of a step forward and back; returns the mean loss.

    Args:
        run: The run.
        network: What is called: the network, or what a strategy made of it.
        drawn: The examples.
        place: Epoch and step, for errors.
        around: Entered for each part, with whether it is the last.

    Raises:
        RecipeError: The loss is not finite, or torch cannot compile the network.
    """
    total = 0.0
    for number, batch in enumerate(drawn.parts):
        with around(number == len(drawn.parts) - 1):
            with _autocast(run):
                loss = _loss(run, network, batch)
            if len(drawn.parts) > 1:
                loss = loss * (len(batch.targets_B) / drawn.num)
            value = loss.item()
            if not math.isfinite(value):
                raise diverged(run, value, f"epoch {place[0]}, step {place[1]}", place[0])
            loss.backward()  # type: ignore[no-untyped-call]
        total += value
    return total


def _loss(run: Run, network: nn.Module, batch: Batch) -> Tensor:
    with _compiler_errors(run) if run.recipe.train.compile else nullcontext():
        outputs = network(*batch.inputs)
    loss = run.objective.loss(outputs, batch.targets_B)
    if batch.others_B is None:
        return loss
    other = run.objective.loss(outputs, batch.others_B)
    return batch.share * loss + (1 - batch.share) * other


def _autocast(run: Run) -> AbstractContextManager[object]:
    """Products of matrices in bfloat16, where the recipe asks for it."""
    if run.recipe.train.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(run.worker.device).type, dtype=torch.bfloat16)


@contextmanager
def _compiler_errors(run: Run) -> Iterator[None]:
    """Turn what torch.compile raises into an error that names the setting."""
    from torch._dynamo.exc import TorchDynamoException  # heavy, and of use to few

    try:
        yield
    except TorchDynamoException as error:
        raise RecipeError(
            f"train.compile: torch cannot compile {run.recipe.model['name']!r} here, set it to"
            f" false ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
