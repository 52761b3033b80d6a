from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from filmed import CLIP, clip_content, fused_content, write_filmed
from motoric.artefact.preprocessing import prepare
from motoric.core.errors import RecipeError
from motoric.data.dataset import open_dataset
from motoric.models.shapes import ClipShape, SensorShape
from motoric.training.batches import Batches, input_shapes
from motoric.training.examples import SplitExamples
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe, parse_recipe

SHAKE = {"jitter_std": 0.5}
BRIGHTEN = {"brightness_std": 0.5}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_filmed(
        tmp_path_factory.mktemp("filmed"),
        num_subjects=4,
        duration_s=4.0,
        without_video=[0],
        without_sensors=[1],
    )


def load(uri: str, content: dict[str, Any]) -> tuple[Recipe, SplitExamples, Batches]:
    split = {"test_subjects": ["s3"], "validation_subjects": ["s2"]}
    recipe = parse_recipe({**content, "split": split}, "r")
    data = load_split(recipe, open_dataset(uri))
    return recipe, data, Batches(recipe, data)


def everything(data: SplitExamples) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(len(data.train))


def test_a_network_is_told_the_shapes_of_what_it_gets(uri: str) -> None:
    _, data, batches = load(uri, fused_content(uri, clip={**CLIP, "colour": "grey"}))
    shapes = input_shapes(data)
    assert shapes.sensors == SensorShape(num_samples=40, num_channels=3, rate_hz=20.0)
    assert shapes.clip == ClipShape(num_frames=8, height=16, width=16, num_channels=1)
    windows_BTC, clips_BTHWC, present_B2 = batches.plain(data.train, everything(data)).inputs
    assert windows_BTC.shape[1:] == (40, 3)
    assert clips_BTHWC.shape[1:] == (8, 16, 16, 1)
    assert present_B2.shape == (len(data.train), 2)
    assert {windows_BTC.dtype, clips_BTHWC.dtype, present_B2.dtype} == {torch.float32}


def test_channels_that_the_steps_add_are_counted(uri: str) -> None:
    steps = {"steps": [{"step": "gravity_split"}]}
    content = fused_content(uri, clip=None, model={"name": "recurrent"}, preprocessing=steps)
    _, data, batches = load(uri, content)
    shapes = input_shapes(data)
    assert shapes.clip is None
    assert shapes.sensors is not None
    assert shapes.sensors.num_channels == 6
    (windows_BTC,) = batches.plain(data.train, everything(data)).inputs
    assert windows_BTC.shape[1:] == (40, 6)


def test_plain_batches_are_what_a_predictor_prepares(uri: str) -> None:
    _, data, batches = load(uri, fused_content(uri, augmentation=SHAKE, clip_augmentation=BRIGHTEN))
    train, signature = data.train, data.signature
    batch = batches.plain(train, everything(data))
    assert train.windows_BTC is not None
    assert train.clips_BTHWC is not None
    prepared = prepare(train.windows_BTC, signature.preprocessing, signature.sensors)
    expected = prepared * train.present_B2[:, 0, None, None]
    np.testing.assert_array_equal(batch.inputs[0].numpy(), expected)
    normaliser = signature.preprocessing.clip_normaliser
    assert normaliser is not None
    values = (train.clips_BTHWC / 255 - np.array(normaliser.mean)) / np.array(normaliser.std)
    expected = values * train.present_B2[:, 1, None, None, None, None]
    np.testing.assert_allclose(batch.inputs[1].numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(batch.targets_B.numpy(), train.targets_B)


def test_zeros_stand_in_for_what_is_missing_even_after_augmentation(uri: str) -> None:
    _, data, batches = load(uri, fused_content(uri, augmentation=SHAKE, clip_augmentation=BRIGHTEN))
    generator = torch.Generator().manual_seed(0)
    batch = batches.training(data.train, everything(data), generator)
    windows_BTC, clips_BTHWC, present_B2 = batch.inputs
    assert sorted(set(map(tuple, present_B2.tolist()))) == [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    assert not windows_BTC[present_B2[:, 0] == 0].any()
    assert not clips_BTHWC[present_B2[:, 1] == 0].any()
    assert windows_BTC[present_B2[:, 0] == 1].flatten(1).any(dim=1).all()
    assert clips_BTHWC[present_B2[:, 1] == 1].flatten(1).any(dim=1).all()


def test_training_batches_follow_from_the_generator_alone(uri: str) -> None:
    _, data, batches = load(uri, fused_content(uri, augmentation=SHAKE, clip_augmentation=BRIGHTEN))

    def drawn(seed: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return batches.training(data.train, everything(data), generator).inputs

    first, again, other = drawn(1), drawn(1), drawn(2)
    plain = batches.plain(data.train, everything(data)).inputs
    for place in (0, 1):
        assert torch.equal(first[place], again[place])
        assert not torch.equal(first[place], other[place])
        assert not torch.equal(first[place], plain[place])


def test_the_examples_themselves_are_never_changed(uri: str) -> None:
    _, data, batches = load(uri, fused_content(uri, augmentation=SHAKE, clip_augmentation=BRIGHTEN))
    assert data.train.windows_BTC is not None
    assert data.train.clips_BTHWC is not None
    before = data.train.windows_BTC.copy(), data.train.clips_BTHWC.copy()
    batches.training(data.train, everything(data), torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(data.train.windows_BTC, before[0])
    np.testing.assert_array_equal(data.train.clips_BTHWC, before[1])


def test_a_mirrored_clip_gets_the_label_of_the_other_side(uri: str) -> None:
    flipped = {"flip": 1.0, "flip_swaps": {"jump": "walk"}}
    _, data, batches = load(uri, clip_content(uri, clip_augmentation=flipped))
    batch = batches.training(data.train, everything(data), torch.Generator().manual_seed(0))
    plain = batches.plain(data.train, everything(data))
    torch.testing.assert_close(batch.inputs[0], plain.inputs[0].flip(3), atol=0.05, rtol=0)
    other = {data.train.classes.index(a): data.train.classes.index(b) for a, b in SWAPPED}
    assert batch.targets_B.tolist() == [other[target] for target in data.train.targets_B.tolist()]
    assert batch.windows_BTC is None


SWAPPED = (("jump", "walk"), ("walk", "jump"), ("squat", "squat"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_augmentation": {"flip_keeps": ["jumb"]}}, "jumb"),
        (
            {"clip_augmentation": {"flip": 0.5, "flip_swaps": {"jump": "walk"}}},
            "would contradict the swapped label",
        ),
        (
            {
                "augmentation": {"rotation_deg": 10},
                "window": {"stream": "imu", "length_s": 2.0, "channels": ["acc_x"]},
            },
            "rotation_deg",
        ),
    ],
)
def test_an_augmentation_that_does_not_fit_is_refused(
    uri: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load(uri, fused_content(uri, **changes))
