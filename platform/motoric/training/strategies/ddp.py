"""Data parallel: each worker holds the whole network, and gradients are averaged at each step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from motoric.training.agreement import is_shared
from motoric.training.recipe import Recipe
from motoric.training.run import Worker
from motoric.training.strategies.base import Strategy


class DataParallel(Strategy):
    """Torch's DistributedDataParallel (Li et al. 2020, arXiv 2006.15704); one worker needs none."""

    name = "ddp"

    def __init__(self, recipe: Recipe, worker: Worker) -> None:
        super().__init__(recipe, worker)
        self._parallel: DistributedDataParallel | None = None

    def prepare(self, network: nn.Module) -> nn.Module:
        """Wrap the network where there are others to share with."""
        if not is_shared():
            return network
        on_gpu = self.worker.device.startswith("cuda")
        self._parallel = DistributedDataParallel(
            network,
            device_ids=[self.worker.device] if on_gpu else None,
            output_device=self.worker.device if on_gpu else None,
        )
        return self._parallel

    def accumulate(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Keep gradients to this worker until the last micro-batch."""
        if self._parallel is None or is_last:
            return nullcontext()
        return self._parallel.no_sync()
