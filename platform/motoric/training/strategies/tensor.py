"""Tensor parallel: the layers of a Transformer are cut, and all workers see the same examples.

Megatron's plan (Shoeybi et al. 2019, arXiv 1909.08053) by torch's own modules: query, key, value
and the first layer of the perceptron are cut by columns, so that a worker has whole heads; the
layers after them by rows. A block then costs two sums over the workers in each direction. What
lies between blocks is the same on all workers, and so is what is not cut: the patches' embedding,
normalisation and the last layer.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from motoric.models.patch_transformer import Block
from motoric.training.strategies.sharded import ShardedStrategy, is_shared, mesh_of


class TensorParallel(ShardedStrategy):
    """The blocks of a patch Transformer, cut over all workers.

    Workers draw the same random numbers, so that what lies between blocks stays the same; within a
    block the pieces are therefore dropped out in the same pattern on each worker.
    """

    name = "tensor"

    @property
    def num_shares(self) -> int:
        """All workers see all examples."""
        return 1

    @property
    def share(self) -> int:
        """The same on each worker."""
        return 0

    def prepare(self, network: nn.Module) -> nn.Module:
        """Cut the blocks of the network, in place."""
        if is_shared(self.worker):
            mesh = mesh_of(self.worker)
            for block in [item for item in network.modules() if isinstance(item, Block)]:
                parallelize_module(block, mesh, _plan())
        return network

    def accumulate(self, *, is_last: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Sums over the workers belong to each micro-batch."""
        return nullcontext()

    def step(self, optimiser: Optimizer, scheduler: LRScheduler) -> None:
        """Step parameter by parameter: torch's fused loops do not mix cut and whole ones."""
        for group in optimiser.param_groups:
            group["foreach"] = False
        super().step(optimiser, scheduler)


def _plan() -> dict[str, ParallelStyle]:
    """How the layers of a block are cut; names as in `models.patch_transformer.Block`."""
    return {
        # Once for query, key and value together, so that their gradients are summed once.
        "attention": PrepareModuleInput(
            input_layouts=(Replicate(),), desired_input_layouts=(Replicate(),)
        ),
        "attention.query": ColwiseParallel(),
        "attention.key": ColwiseParallel(),
        "attention.value": ColwiseParallel(),
        "attention.out": RowwiseParallel(),
        "up": ColwiseParallel(),
        "down": RowwiseParallel(),
    }
