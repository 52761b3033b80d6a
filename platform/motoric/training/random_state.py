"""Where the random generators of all workers stand, as tensors of a checkpoint.

Besides torch's own generators there is the one of the epoch's batches, from which NumPy's are
seeded too; nothing draws from NumPy's global one.
Axes: W workers, N bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from motoric.training.agreement import rows_of_all
from motoric.training.run import State, Worker

_TORCH, _GPU, _BATCHES = "torch", "gpu", "batches"


def get_states(batches_N: Tensor, worker: Worker) -> State:
    """The generators' states, one row a worker; all workers call this at the same place.

    Args:
        batches_N: State of the generator of batches, as of the next batch.
        worker: This worker.
    """
    found = {_TORCH: torch.get_rng_state(), _BATCHES: batches_N}
    if _is_gpu(worker):
        found[_GPU] = torch.cuda.get_rng_state(worker.device)
    return {name: rows_of_all(row_N, worker.device) for name, row_N in found.items()}


def set_states(states: State, batches: torch.Generator, worker: Worker) -> None:
    """Set this worker's generators to what `get_states` found, with as many workers."""
    batches.set_state(states[_BATCHES][worker.rank])
    torch.set_rng_state(states[_TORCH][worker.rank])
    if _is_gpu(worker) and _GPU in states:
        torch.cuda.set_rng_state(states[_GPU][worker.rank], worker.device)


def _is_gpu(worker: Worker) -> bool:
    return worker.device.startswith("cuda")
