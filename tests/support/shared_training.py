"""What the processes of `Ranks` are called with: a recipe trained by all of them together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from motoric.data.dataset import open_dataset
from motoric.models.catalogue import build_model, parse_config
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.loop import fit
from motoric.training.progress import EpochReport
from motoric.training.run import State, Worker
from motoric.training.strategies.base import Strategy
from motoric.training.strategies.catalogue import STRATEGIES
from motoric.training.strategies.sharded import local, whole
from trainings import load, recipe_of

SHAPES = InputShapes(
    sensors=SensorShape(num_samples=50, num_channels=3, rate_hz=25.0),
    clip=ClipShape(num_frames=4, height=16, width=16, num_channels=1),
)
NUM_CLASSES = 3


def train_together(
    rank: int, num: int, uri: str, changes: dict[str, Any]
) -> tuple[State, list[float]]:
    """Weights to keep, and the validation loss of each epoch."""
    recipe, data = load(uri, **changes)
    losses: list[float] = []

    def keep(report: EpochReport, _: State) -> None:
        assert report.validation_loss is not None
        losses.append(report.validation_loss)

    weights = fit(recipe, data, worker=Worker(rank=rank, world_size=num), on_epoch=keep)
    return weights, losses


class _StoppedError(Exception):
    pass


def train_on(
    rank: int, num: int, uri: str, run_uri: str, changes: dict[str, Any], until: int | None = None
) -> State | None:
    """Go on with a run that keeps checkpoints; None if it was stopped before so many epochs."""
    recipe, data = load(uri, **changes)
    checkpoints = Checkpoints(run_uri, identity_of(recipe, open_dataset(uri)))

    def stop(report: EpochReport, _: State) -> None:
        if until is not None and report.epoch + 1 == until:
            raise _StoppedError

    worker = Worker(rank=rank, world_size=num)
    try:
        return fit(recipe, data, worker=worker, on_epoch=stop, checkpoints=checkpoints)
    except _StoppedError:
        checkpoints.wait()
        return None


def _inputs(network: nn.Module) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    windows_BTC = torch.randn(8, 50, 3, generator=generator)
    clips_BTHWC = torch.randn(8, 4, 16, 16, 1, generator=generator)
    kind = type(getattr(network, "module", network)).__name__.removeprefix("FSDP")
    if kind in ("R2Plus1d", "FrameRecurrent"):
        return (clips_BTHWC,)
    if kind in ("Fusion", "LateFusion"):
        return windows_BTC, clips_BTHWC, torch.ones(8, 2)
    return (windows_BTC,)


def _loss(network: nn.Module, rows: list[int]) -> Tensor:
    targets_B = torch.arange(8) % NUM_CLASSES
    inputs = _inputs(network)
    outputs = network(*(item[rows] for item in inputs))
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [nn.functional.cross_entropy(item, targets_B[rows]) for item in parts]
    return torch.stack(losses).sum()


def new_network(model: dict[str, Any]) -> nn.Module:
    """With weights that are the same in every process."""
    torch.manual_seed(0)
    return build_model(parse_config(model), SHAPES, NUM_CLASSES)


class Steps:
    """A network under one strategy, stepped on eight made-up examples.

    The strategies are asked directly: what they do for a recipe is in `train_together`.
    """

    def __init__(self, strategy: str, model: dict[str, Any], rank: int, num: int) -> None:
        recipe = recipe_of("nowhere")
        worker = Worker(rank=rank, world_size=num)
        self.strategy: Strategy = STRATEGIES[strategy](recipe, worker)
        self.network = new_network(model)
        self.parallel = self.strategy.prepare(self.network)
        self.optimiser = torch.optim.AdamW(self.parallel.parameters(), lr=1e-3)
        self.scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimiser, factor=1.0)

    def step(self, num_parts: int = 1, max_norm: float = 1.0) -> None:
        """One step, its examples divided into micro-batches one after the other."""
        strategy = self.strategy
        self.optimiser.zero_grad()
        own = list(range(strategy.share, 8, strategy.num_shares))
        size = len(own) // num_parts
        for part in range(num_parts):
            rows = own[part * size : (part + 1) * size]
            with strategy.accumulate(is_last=part == num_parts - 1):
                loss = _loss(self.parallel, rows) / num_parts
                loss.backward()
        strategy.clip(self.parallel.parameters(), max_norm)
        strategy.step(self.optimiser, self.scheduler)

    def states(self) -> tuple[State, State]:
        """Whole weights and optimiser state."""
        strategy = self.strategy
        return (
            strategy.weights(self.network),
            strategy.optimiser_state(self.network, self.optimiser),
        )


def step_together(
    rank: int,
    num: int,
    strategy: str,
    model: dict[str, Any],
    num_steps: int = 1,
    num_parts: int = 1,
    max_norm: float = 1.0,
    begin: tuple[State, State] | None = None,
) -> tuple[State, State]:
    """Whole states after some steps, from the beginning or from whole states."""
    steps = Steps(strategy, model, rank, num)
    if begin is not None:
        steps.strategy.load(steps.network, steps.optimiser, *begin)
    for _ in range(num_steps):
        steps.step(num_parts, max_norm)
    return steps.states()


def held_together(rank: int, num: int, strategy: str, model: dict[str, Any]) -> tuple[int, int]:
    """Numbers of parameters and of optimiser states that this worker holds after a step."""
    steps = Steps(strategy, model, rank, num)
    steps.step()
    states = steps.optimiser.state.values()
    return (
        sum(local(item).numel() for item in steps.network.parameters()),
        sum(local(value).numel() for state in states for value in state.values()),
    )


def fail_on_the_second(rank: int, num: int) -> None:
    """Fail in one process while the others wait for it."""
    if rank == 1:
        raise ValueError("the second one fails")
    distributed.barrier()


def shared_steps(rank: int, num: int, strategy: str, model: dict[str, Any]) -> State:
    """Whole weights after two steps, with a validation between them and after them."""
    steps = Steps(strategy, model, rank, num)
    for _ in range(2):
        steps.network.train()
        steps.step()
        with torch.no_grad():
            steps.network.eval()(*_inputs(steps.network))
    return {name: whole(value) for name, value in steps.network.state_dict().items()}


def train_alone(model: dict[str, Any]) -> nn.Module:
    """A network after one forward and backward."""
    network = new_network(model)
    _loss(network, list(range(8))).backward()
    return network
