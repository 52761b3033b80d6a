from __future__ import annotations

from pathlib import Path

import torch

from motoric.training.batches import Batch, mix
from recordings import SineSource, write_dataset
from trainings import load, train_here


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


def test_what_lacks_an_input_is_not_mixed_with_what_has_it() -> None:
    present_B2 = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    windows_BTC = torch.arange(4.0)[:, None, None].expand(4, 3, 1)
    clips_BTHWC = torch.arange(4.0)[:, None, None, None, None].expand(4, 2, 8, 8, 1)
    batch = Batch(inputs=(windows_BTC, clips_BTHWC, present_B2), targets_B=torch.arange(4))
    for seed in range(8):
        mixed = mix(batch, 0.5, torch.Generator().manual_seed(seed))
        assert mixed.others_B is not None
        torch.testing.assert_close(mixed.inputs[2], present_B2)
        torch.testing.assert_close(mixed.inputs[1][[1, 3]], clips_BTHWC[[1, 3]])
        assert mixed.others_B[[1, 3]].tolist() == [1, 3]
        assert sorted(mixed.others_B[[0, 2]].tolist()) in ([0, 2], [0, 0], [2, 2])
