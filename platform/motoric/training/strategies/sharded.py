"""What the strategies that cut parameters into pieces share: their states are put together again.

A parameter that lies in pieces on several workers is a DTensor of torch.distributed.tensor; the
optimiser's states of it are cut alike. What leaves a strategy is whole, so that every other one can
go on from it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from motoric.training.run import State, Worker
from motoric.training.strategies.base import Strategy


class ShardedStrategy(Strategy):
    """A strategy whose parameters are DTensors, some or all of them."""

    def clip(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """As torch's `clip_grad_norm_`, with one exchange for all pieces together."""
        gradients = [item.grad for item in parameters if item.grad is not None]
        if not gradients:
            return
        squares = torch.zeros(2, device=local(gradients[0]).device)
        for item in gradients:
            squares[int(_is_cut(item))] += local(item).float().square().sum()
        if distributed.is_initialized():
            distributed.all_reduce(squares[1:])
        scale = (max_norm / (squares.sum().sqrt() + 1e-6)).clamp(max=1.0)
        for item in gradients:
            local(item).mul_(scale)

    def is_finite(self, network: nn.Module) -> bool:
        """Whether this worker's pieces are numbers."""
        return all(bool(local(item).isfinite().all()) for item in network.parameters())

    def weights(self, network: nn.Module) -> State:
        """A copy of the whole network's weights on the CPU; empty but on the first worker."""
        return self._on_the_first(network.state_dict())

    def optimiser_state(self, network: nn.Module, optimiser: Optimizer) -> State:
        """A copy of the optimiser's whole state on the CPU; empty but on the first worker."""
        return self._on_the_first(
            {
                f"{name}.{entry}": value
                for name, parameter in network.named_parameters()
                for entry, value in optimiser.state.get(parameter, {}).items()
            }
        )

    def load(
        self, network: nn.Module, optimiser: Optimizer, weights: State, optimiser_state: State
    ) -> None:
        """Take this worker's pieces of whole states; nothing is exchanged."""
        own = {name: like(value, weights[name]) for name, value in network.state_dict().items()}
        network.load_state_dict(own)
        parameters = dict(network.named_parameters())
        for key, value in optimiser_state.items():
            name, _, entry = key.rpartition(".")
            if name in parameters:
                parameter = parameters[name]
                optimiser.state[parameter][entry] = (
                    value.clone() if value.ndim == 0 else like(parameter, value)
                )

    def _on_the_first(self, pieces: State) -> State:
        """Put tensors together one by one, so that the others hold one at a time, not all."""
        found = {}
        for name, value in pieces.items():
            full = whole(value)
            if self.worker.rank == 0:
                found[name] = full
        return found


def mesh_of(worker: Worker) -> DeviceMesh:
    """All workers in one line."""
    kind = "cuda" if worker.device.startswith("cuda") else "cpu"
    return init_device_mesh(kind, (worker.world_size,))


def is_shared(worker: Worker) -> bool:
    """Whether there are others to share a network with."""
    return worker.world_size > 1 and distributed.is_available() and distributed.is_initialized()


def local(value: Tensor) -> Tensor:
    """This worker's piece, which shares its memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """A copy on the CPU, put together from all workers' pieces."""
    full = value.detach()
    if isinstance(full, DTensor):
        full = full.full_tensor()
    return full.to("cpu", copy=True).contiguous()


def like(place: Tensor, value: Tensor) -> Tensor:
    """A whole tensor as `place` lies: on its device, and cut as it is."""
    if not isinstance(place, DTensor):
        return value.to(place.device, copy=True)
    moved = value.to(place.device_mesh.device_type)
    # No rank is the source: each has the whole tensor and cuts out its own piece. The copy lets go
    # of the rest.
    cut = distribute_tensor(moved, place.device_mesh, place.placements, src_data_rank=None)
    return cut.clone()


def _is_cut(value: Tensor) -> bool:
    return isinstance(value, DTensor) and any(item.is_shard() for item in value.placements)
