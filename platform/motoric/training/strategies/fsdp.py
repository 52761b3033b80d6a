"""Fully sharded data parallel: parameters, gradients and optimiser states lie in pieces.

Each worker keeps one piece of each and its own share of the examples. The parameters of a block are
gathered just before the block runs, in both directions, and let go after it; gradients are averaged
and cut in one exchange. After ZeRO stage 3 (Rajbhandari et al. 2020, arXiv 1910.02054) in torch's
second form of it (`fully_shard`; Zhao et al. 2023, arXiv 2304.11277, describe the first).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from motoric.training.recipe import Recipe
from motoric.training.run import Worker
from motoric.training.strategies.sharded import ShardedStrategy, is_shared, mesh_of


class FullySharded(ShardedStrategy):
    """Torch's FSDP2; one worker keeps the network whole.

    As with `ddp`, normalisation layers see a worker's own share of a batch, and the running
    statistics that are kept are those of the first worker.
    """

    name = "fsdp"

    def __init__(self, recipe: Recipe, worker: Worker) -> None:
        super().__init__(recipe, worker)
        self._sharded: FSDPModule | None = None

    def prepare(self, network: nn.Module) -> nn.Module:
        """Cut the network's parameters, block by block, in place."""
        if not is_shared(self.worker):
            return network
        mesh = mesh_of(self.worker)
        for block in _blocks(network):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        # The rest too is let go after a forward without a backward, so that what is left between
        # steps is always the pieces that the optimiser holds.
        self._sharded = fully_shard(network, mesh=mesh, reshard_after_forward=True)
        return network

    def accumulate(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Keep whole gradients on this worker until the last micro-batch."""
        if self._sharded is None or is_last:
            return nullcontext()
        return _without_exchange(self._sharded)


@contextmanager
def _without_exchange(network: FSDPModule) -> Iterator[None]:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that are gathered one at a time: what stands in the networks' lists of blocks."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == "blocks":
            yield from module.children()
