from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from motoric.core.errors import RecipeError
from motoric.training.memory import MemoryLimit, batches_that_fit


class _Starved(nn.Module):
    """What a network on a full GPU does."""

    def forward(self, windows_BTC: Tensor) -> Tensor:
        raise torch.OutOfMemoryError(f"CUDA out of memory with {len(windows_BTC)} windows.")


@pytest.mark.parametrize(
    ("device", "place"), [("cuda:0", "the GPU"), ("cpu", "the worker's memory")]
)
def test_a_network_without_room_says_which_settings_to_lower(device: str, place: str) -> None:
    wanted = f"a batch of 48 examples does not fit {place}: lower train.batch_size"
    with pytest.raises(RecipeError, match=wanted) as caught, batches_that_fit(48, device):
        _Starved()(torch.zeros(1, 2, 3))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_an_allocation_that_torch_or_numpy_cannot_make_is_named() -> None:
    huge = 2**60
    with pytest.raises(RecipeError, match=r"train\.batch_size"), batches_that_fit(1, "cpu"):
        torch.empty(huge)
    with pytest.raises(RecipeError, match=r"train\.batch_size"), batches_that_fit(1, "cpu"):
        np.zeros(huge // 8, dtype=np.float32)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="must match"), batches_that_fit(1, "cpu"):
        torch.zeros(2) + torch.zeros(3)


def test_only_what_is_over_the_limit_is_refused() -> None:
    MemoryLimit(None).check("x")
    MemoryLimit(1e6).check("x")
    message = r"after epoch 3 the worker holds .* GiB, over .*memory_gib_per_worker \(0.01\)"
    with pytest.raises(RecipeError, match=message):
        MemoryLimit(0.01).check("epoch 3")
