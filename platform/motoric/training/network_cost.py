"""What a network costs on this machine, from a few batches: size, operations, time and memory.

In: a recipe and its examples. Out: a `NetworkCost`. Nothing is trained to an end.

Axes: B examples, M examples of a sample, F features, K outputs.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from motoric.core.errors import RecipeError
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.late_fusion import LateFusion
from motoric.training.batches import Batch, Batches
from motoric.training.examples import SplitExamples
from motoric.training.loop import make_network
from motoric.training.memory import batches_that_fit
from motoric.training.objective import Objective
from motoric.training.recipe import Recipe
from motoric.training.run import Run, Worker
from motoric.training.solving import num_passes, solve_sensors
from motoric.training.strategies.matrix import parts_of_batch, parts_of_epoch

_NUM_TIMED = 3
_TIMED_S = 20.0
_SINGLE_TIMED = 7
# Examples that a network with a solved head is fitted on here.
_SAMPLE = 512
_FEATURE_BATCH = 256
_NUM_PENALTIES = 10
_LEFT_OUT_TOGETHER = 1024
# Gates of a recurrent cell, each a product with the input and one with the state.
_GATES = {"GRU": 3, "LSTM": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCost:
    """What the network of a recipe costs on this machine.

    Attributes:
        device: `cpu` or `cuda`: what was measured on.
        num_parameters: Trained ones; of a solved head its weights.
        num_bytes: Of parameters and fixed tensors.
        forward_flops: Floating-point operations of one example, forward: convolutions, products of
            matrices and recurrent cells, a multiplication and an addition as two. What works
            element by element is not counted.
        batch_size: Examples of a worker's batch.
        step_ms: One training step (loading, forward, backward, optimiser); of a solved head, the
            features of a batch.
        forward_ms: Forward alone of a batch, without augmentation.
        single_ms: Forward of one prepared example.
        step_bytes: Weights, gradients, both moments of the optimiser, the batch, and what the
            forward pass keeps for the backward one, by the sizes of the kept tensors; on a GPU the
            peak that was allocated. Of a solved head: all features, and the work of the solution.
        solve_s: Estimated time to solve the head; 0 where there is a gradient.
        loss: Of the first batch; NaN for a solved head.
    """

    device: str
    num_parameters: int
    num_bytes: int
    forward_flops: int
    batch_size: int
    step_ms: float
    forward_ms: float
    single_ms: float
    step_bytes: int
    solve_s: float = 0.0
    loss: float = math.nan


class Trial:
    """One network on a few batches of its data.

    Args:
        recipe: The recipe.
        data: Its examples.
        device: Where batches are tried.

    Raises:
        RecipeError: The network or an augmentation does not fit the data.
    """

    def __init__(self, recipe: Recipe, data: SplitExamples, device: str) -> None:
        self._recipe, self._data, self._device = recipe, data, device
        self._batches = Batches(recipe, data, device)
        self._objective = Objective(recipe, data)
        self._generator = torch.Generator().manual_seed(recipe.train.seed)
        self._network = make_network(recipe, data)
        if isinstance(self._network, LateFusion):
            worker = Worker(device=device)
            self._network.to(device)
            solve_sensors(
                Run(recipe=recipe, data=data, worker=worker, network=self._network), self._network
            )
            self._network.to("cpu")
        self.one = Batches(recipe, data).plain(data.at_hand, np.zeros(1, dtype=np.int64))

    @property
    def is_solved(self) -> bool:
        """The head is solved, not descended to."""
        return isinstance(self._network, ClosedFormNetwork)

    @property
    def batch_size(self) -> int:
        """Examples that a worker takes at once."""
        train = self._recipe.train
        num_parts = parts_of_batch(self._recipe.strategy, self._recipe.resources.min_workers)
        size = max(1, train.batch_size // num_parts)
        return min(_FEATURE_BATCH if self.is_solved else size, len(self._data.train))

    @property
    def steps_per_epoch(self) -> int:
        """Batches of each worker in a pass over its examples."""
        num_parts = parts_of_epoch(self._recipe.strategy, self._recipe.resources.min_workers)
        share = math.ceil(len(self._data.train) / num_parts)
        return math.ceil(share / self.batch_size)

    def descended(self) -> NetworkCost:
        """Cost of a network with a gradient.

        Raises:
            RecipeError: A batch does not fit the memory, or its loss is not finite.
        """
        self._network.eval()
        flops = forward_flops(self._network, self.one.inputs)
        self._network.to(self._device).train()
        optimiser = torch.optim.AdamW(
            self._network.parameters(), lr=self._recipe.optimiser.learning_rate
        )
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        kept = _KeptTensors(self._network)
        with batches_that_fit(self.batch_size, self._device):
            with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
                batch, loss = self._loss()
            _finite(loss)
            value = float(loss.item())
            self._backward(loss, optimiser)
            step_bytes = _step_bytes(self._network, batch, kept.num_bytes)
            del batch, loss
            step_ms = self._timed(lambda: self._backward(self._loss()[1], optimiser), _NUM_TIMED)
        if self._device == "cuda":
            step_bytes = torch.cuda.max_memory_allocated()
        return self._cost(flops, step_ms=step_ms, step_bytes=step_bytes, loss=value)

    def solved(self) -> NetworkCost:
        """Cost of a network whose head is solved, from a fit to a sample of the examples.

        Raises:
            RecipeError: Several workers, or a forecast.
        """
        network = self._network
        assert isinstance(network, ClosedFormNetwork)
        self._check_solved()
        network.to(self._device).eval()
        train = self._data.train
        sample_M = np.unique(np.linspace(0, len(train) - 1, _SAMPLE).round().astype(np.int64))
        with torch.no_grad(), batches_that_fit(len(sample_M), self._device):
            batch = self._batches.plain(train, sample_M)
            network.initialise(batch.inputs[0], self._generator)
            features_MF = network.features(batch.inputs[0])
            step_ms = self._timed(lambda: network.features(self._plain().inputs[0]), _NUM_TIMED)
            started_s = time.perf_counter()
            self._solve(network, features_MF, batch.targets_B, sample_M)
            sample_s = time.perf_counter() - started_s
        num_rows = len(train) * num_passes(self._recipe)
        num_features, num_outputs = network.num_features, self._objective.num_outputs
        num_groups = len(set(train.subjects))
        ratio = _solve_flops(num_rows, num_features, num_outputs, num_groups) / _solve_flops(
            len(sample_M), num_features, num_outputs, num_groups
        )
        flops = forward_flops(network.to("cpu"), self.one.inputs)
        network.to(self._device)
        return self._cost(
            flops,
            step_ms=step_ms,
            step_bytes=_solve_bytes(num_rows, num_features, num_outputs),
            solve_s=sample_s * ratio,
        )

    def _solve(
        self,
        network: ClosedFormNetwork,
        features_MF: Tensor,
        targets_M: Tensor,
        sample_M: NDArray[np.int64],
    ) -> None:
        subject_M = np.unique(np.array(self._data.train.subjects)[sample_M], return_inverse=True)[1]
        is_one = len(set(subject_M.tolist())) < 2
        network.solve(
            features_MF,
            targets_M if self._objective.is_classes else targets_M[:, None].double(),
            groups_N=None if is_one else torch.from_numpy(subject_M),
        )

    def _check_solved(self) -> None:
        name, num_workers = self._recipe.model["name"], self._recipe.resources.max_workers
        if num_workers > 1:
            raise RecipeError(
                f"model {name!r} is solved by one worker: set resources.num_workers to 1 (now"
                f" {num_workers})"
            )
        if self._recipe.task == "forecast":
            raise RecipeError(f"model {name!r} gives no quantiles: choose another for a forecast")

    def _cost(
        self,
        flops: int,
        *,
        step_ms: float,
        step_bytes: int,
        solve_s: float = 0.0,
        loss: float = math.nan,
    ) -> NetworkCost:
        self._network.eval()
        batch = self._plain()
        single = tuple(item[:1] for item in batch.inputs)
        with torch.no_grad(), batches_that_fit(self.batch_size, self._device):
            forward_ms = self._timed(lambda: self._network(*batch.inputs), _NUM_TIMED)
            single_ms = self._timed(lambda: self._network(*single), _SINGLE_TIMED)
        tensors = [*self._network.parameters(), *self._network.buffers()]
        return NetworkCost(
            device=self._device,
            num_parameters=sum(item.numel() for item in self._network.parameters()),
            num_bytes=sum(item.numel() * item.element_size() for item in tensors),
            forward_flops=flops,
            batch_size=self.batch_size,
            step_ms=step_ms,
            forward_ms=forward_ms,
            single_ms=single_ms,
            step_bytes=step_bytes,
            solve_s=solve_s,
            loss=loss,
        )

    def _plain(self) -> Batch:
        return self._batches.plain(self._data.at_hand, self._indices())

    def _loss(self) -> tuple[Batch, Tensor]:
        batch = self._batches.training(self._data.at_hand, self._indices(), self._generator)
        outputs = self._network(*batch.inputs)
        return batch, self._objective.loss(outputs, batch.targets_B)

    def _backward(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.optimiser.max_grad_norm)
        optimiser.step()

    def _indices(self) -> NDArray[np.int64]:
        """Examples from all over the training part, so that the batch is a typical one."""
        num = len(self._data.at_hand)
        return np.linspace(0, num - 1, self.batch_size).round().astype(np.int64)

    def _timed(self, call: Callable[[], object], times: int) -> float:
        """Median milliseconds after one call that warms up."""
        found_s: list[float] = []
        while len(found_s) <= times and sum(found_s) < _TIMED_S:
            started_s = time.perf_counter()
            call()
            if self._device == "cuda":
                torch.cuda.synchronize()
            found_s.append(time.perf_counter() - started_s)
        return statistics.median(found_s[1:] or found_s) * 1e3


class _KeptTensors:
    """Sums what autograd keeps for the backward pass; storages that are shared count once.

    Args:
        network: Its parameters and buffers do not count: they are there anyway.
    """

    def __init__(self, network: nn.Module) -> None:
        tensors = [*network.parameters(), *network.buffers()]
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.num_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a tensor and keep it as it is."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()
        return tensor


def forward_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Floating-point operations of a forward pass: convolutions, products and recurrent cells.

    Recurrent cells are counted by formula, since torch counts some of their kernels and misses
    others: 2 * gates * H * (inputs + H) a sample, layer and direction.
    """
    counter = FlopCounterMode(display=False)
    inside, formula, entered = 0, 0, 0

    def enter(_: nn.Module, __: object) -> None:
        nonlocal entered
        entered = counter.get_total_flops()

    def leave(cell: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        nonlocal inside, formula
        assert isinstance(cell, nn.RNNBase)
        inside += counter.get_total_flops() - entered
        formula += _recurrent_flops(cell, num_samples=math.prod(given[0].shape[:-1]))

    handles = []
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            handles += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ]
    try:
        # The counter knows no fused attention of a CPU.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return int(counter.get_total_flops()) - inside + formula


def _recurrent_flops(cell: nn.RNNBase, *, num_samples: int) -> int:
    directions = 2 if cell.bidirectional else 1
    hidden, given = cell.proj_size or cell.hidden_size, cell.proj_size * cell.hidden_size
    gates, total, width = _GATES.get(cell.mode, 1), 0, cell.input_size
    for _ in range(cell.num_layers):
        total += directions * 2 * (gates * cell.hidden_size * (width + hidden) + given)
        width = directions * hidden
    return total * num_samples


def _step_bytes(network: nn.Module, batch: Batch, kept_bytes: int) -> int:
    """A step of AdamW: weights, gradients, two moments; buffers; the batch; what was kept."""
    weights = sum(item.numel() * item.element_size() for item in network.parameters())
    buffers = sum(item.numel() * item.element_size() for item in network.buffers())
    given = sum(item.numel() * item.element_size() for item in batch.inputs)
    return 4 * weights + buffers + given + kept_bytes


def _solve_bytes(num_rows: int, num_features: int, num_outputs: int) -> int:
    """All features (float32, once more while joined), products and basis, errors by penalty."""
    rank = min(num_rows, num_features)
    features = 2 * 4 * num_rows * num_features
    return features + 8 * (3 * rank**2 + (_NUM_PENALTIES + 2) * num_rows * num_outputs)


def _solve_flops(num_rows: int, num_features: int, num_outputs: int, num_groups: int) -> float:
    """Products, eigenvectors, and for each penalty the errors of windows left out together."""
    rank = min(num_rows, num_features)
    together = min(_LEFT_OUT_TOGETHER, num_rows / num_groups)
    by_penalty = 2 * num_rows * rank * (together + num_outputs) + num_rows * together**2
    return 2.0 * num_rows * num_features * rank + 9.0 * rank**3 + _NUM_PENALTIES * by_penalty


def _finite(loss: Tensor) -> None:
    if not math.isfinite(loss.item()):
        raise RecipeError(
            f"the loss of the first batch is {loss.item()}: look for values that are not finite or"
            " far from all others, and leave preprocessing.normalise on"
        )
