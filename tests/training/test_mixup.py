from __future__ import annotations

from pathlib import Path

import pytest
import torch

from filmed import CLIP, FUSED_MODEL
from motoric.core.errors import RecipeError
from motoric.training.batches import Batch, mix
from recordings import SineSource, write_dataset
from trainings import load, recipe_of, train_here


def test_each_example_is_mixed_with_one_of_the_batch_by_one_share() -> None:
    inputs_BTC = torch.arange(5.0)[:, None, None].expand(5, 4, 2)
    batch = Batch(inputs=(inputs_BTC,), targets_B=torch.arange(5))
    mixed = mix(batch, 0.5, torch.Generator().manual_seed(3))
    assert mixed.others_B is not None
    assert sorted(mixed.others_B.tolist()) == [0, 1, 2, 3, 4]
    assert 0 < mixed.share < 1
    expected_B = mixed.share * mixed.targets_B + (1 - mixed.share) * mixed.others_B
    torch.testing.assert_close(mixed.inputs[0][:, 0, 0], expected_B.float())
    again = mix(batch, 0.5, torch.Generator().manual_seed(3))
    assert again.share == mixed.share
    other = mix(batch, 0.5, torch.Generator().manual_seed(4))
    assert other.share != mixed.share


def test_a_network_learns_from_mixed_examples(tmp_path: Path) -> None:
    uri = str(tmp_path)
    write_dataset(uri, SineSource(num_subjects=4, duration_s=20.0))
    recipe, data = load(uri, train={"epochs": 8, "batch_size": 16, "mixup_alpha": 0.4})
    trained = train_here(recipe, data)
    right_B = trained.predicted(data.test).argmax(axis=1) == data.test.targets_B
    assert right_B.mean() > 0.8


def test_inputs_that_may_be_missing_are_not_mixed() -> None:
    with pytest.raises(RecipeError, match=r"train\.mixup_alpha"):
        recipe_of("x", clip=CLIP, model=FUSED_MODEL, train={"mixup_alpha": 0.2})
