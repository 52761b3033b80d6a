"""Clips are paired with the windows of the same span; what is missing is marked as missing."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filmed import CLIP, FilmedSource, clip_content, fused_content, write_filmed
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.data.recording import Annotation, Recording
from motoric.training.examples import CLIP as CLIP_COLUMN
from motoric.training.examples import SENSORS, Examples, SplitExamples
from motoric.training.partition import load_split
from motoric.training.recipe import parse_recipe
from recordings import write_dataset

WITHOUT_VIDEO, WITHOUT_SENSORS = "r001", "r005"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_filmed(
        tmp_path_factory.mktemp("filmed"),
        num_subjects=3,
        duration_s=6.0,
        without_video=[1],
        without_sensors=[5],
    )


def load(content: dict[str, object], uri: str) -> SplitExamples:
    return load_split(parse_recipe(content, "r"), open_dataset(uri))


def parts(data: SplitExamples) -> list[Examples]:
    return [data.train, data.validation, data.test]


def found(data: SplitExamples) -> dict[tuple[str, float], tuple[Examples, int]]:
    """Each example by its recording and its start."""
    return {
        (name, round(float(part.start_s_B[index]), 3)): (part, index)
        for part in parts(data)
        for index, name in enumerate(part.recording_ids)
    }


def test_windows_and_clips_of_one_span_are_one_example(uri: str) -> None:
    by_start = found(load(fused_content(uri), uri))
    assert len(by_start) == 9 * 5
    for (name, _), (part, index) in by_start.items():
        expected = [name != WITHOUT_SENSORS, name != WITHOUT_VIDEO]
        assert part.present_B2[index].tolist() == expected
        assert part.end_s_B[index] - part.start_s_B[index] == pytest.approx(2.0)


def test_an_example_has_the_window_and_the_clip_that_each_alone_would_have(uri: str) -> None:
    fused = found(load(fused_content(uri), uri))
    sensors = fused_content(uri, clip=None, model={"name": "recurrent"})
    windows, clips = found(load(sensors, uri)), found(load(clip_content(uri), uri))
    assert len(windows) == len(clips) == 8 * 5
    for place, (part, index) in fused.items():
        assert part.windows_BTC is not None
        assert part.clips_BTHWC is not None
        window_TC, clip_THWC = part.windows_BTC[index], part.clips_BTHWC[index]
        if place in windows:
            other, at = windows[place]
            assert other.windows_BTC is not None
            np.testing.assert_array_equal(window_TC, other.windows_BTC[at])
            assert part.targets_B[index] == other.targets_B[at]
        else:
            assert not window_TC.any()
        if place in clips:
            other, at = clips[place]
            assert other.clips_BTHWC is not None
            np.testing.assert_array_equal(clip_THWC, other.clips_BTHWC[at])
            assert part.targets_B[index] == other.targets_B[at]
        else:
            assert not clip_THWC.any()


def test_the_label_stands_in_the_pictures(uri: str) -> None:
    data = load(clip_content(uri), uri)
    for part in parts(data):
        assert part.windows_BTC is None
        assert part.clips_BTHWC is not None
        red_BW = part.clips_BTHWC[..., 0].max(axis=(1, 2))
        brightest_B = red_BW[:, [2, 6, 10, 14]].argmax(axis=1)
        np.testing.assert_array_equal(brightest_B, part.targets_B)


def test_grey_is_the_luma_of_the_colours(uri: str) -> None:
    colours = load(clip_content(uri), uri).train.clips_BTHWC
    clip = {**CLIP, "length_s": 2.0, "hop_s": 1.0, "colour": "grey"}
    grey = load(clip_content(uri, clip=clip), uri)
    assert colours is not None
    assert grey.train.clips_BTHWC is not None
    assert grey.train.clips_BTHWC.shape == (*colours.shape[:-1], 1)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey.train.clips_BTHWC[..., 0] - luma).max() <= 0.51
    assert grey.signature.clip_input is not None
    assert grey.signature.clip_input.num_channels == 1


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_the_clip_normaliser_follows_from_clips_of_training_people_alone(
    uri: str, colour: str
) -> None:
    data = load(fused_content(uri, clip={**CLIP, "colour": colour}), uri)
    normaliser = data.signature.preprocessing.clip_normaliser
    assert normaliser is not None
    assert data.train.clips_BTHWC is not None
    there = data.train.clips_BTHWC[data.train.present_B2[:, CLIP_COLUMN]] / 255
    np.testing.assert_allclose(normaliser.mean, there.mean(axis=(0, 1, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(normaliser.std, there.std(axis=(0, 1, 2, 3)), atol=1e-9)


def test_the_sensors_normaliser_leaves_out_the_zeros_of_missing_windows(uri: str) -> None:
    split = {"test_subjects": ["s0"], "validation_subjects": ["s2"]}
    data = load(fused_content(uri, split=split), uri)
    train = data.train
    assert set(train.subjects) == {"s1"}
    assert train.windows_BTC is not None
    assert not train.present_B2[:, SENSORS].all()
    normaliser = data.signature.preprocessing.normaliser
    assert normaliser is not None
    there = train.windows_BTC[train.present_B2[:, SENSORS]].astype(np.float64)
    np.testing.assert_allclose(normaliser.std, there.std(axis=(0, 1)), rtol=1e-5)


class Moves(FilmedSource):
    """Two movements in each recording, and one that is over before the video's end."""

    def recording(self, index: int) -> Recording:
        made = super().recording(index)
        label = made.annotations[0].label
        spans = [(0.5, 2.0), (2.5, 5.5)]
        annotations = [Annotation(start_s=a, end_s=b, label=label) for a, b in spans]
        return replace(made, annotations=tuple(annotations))


def moves(folder: Path, **more: Any) -> str:
    (folder / "video").mkdir()
    uri = str(folder / "dataset")
    write_dataset(uri, Moves(folder / "video", num_subjects=3, duration_s=6.0, **more))
    return uri


def test_a_movement_is_one_window_and_one_clip(tmp_path: Path) -> None:
    uri = moves(tmp_path, without_video=[0], without_sensors=[4])
    window = {"stream": "imu", "length_s": 2.0, "span": "annotation"}
    by_start = found(load(fused_content(uri, window=window), uri))
    assert len(by_start) == 9 * 2
    for (name, _), (part, index) in by_start.items():
        assert part.present_B2[index].tolist() == [name != "r004", name != "r000"]


def test_clips_of_movements_span_them(tmp_path: Path) -> None:
    uri = moves(tmp_path)
    data = load(clip_content(uri, clip=CLIP), uri)
    assert data.train.start_s_B.tolist() == [0.5, 2.5] * 3
    assert data.train.end_s_B.tolist() == [2.0, 5.5] * 3


def test_where_the_video_covers_less_the_rest_is_sensors_alone_in_the_order_of_time(
    tmp_path: Path,
) -> None:
    uri = write_filmed(tmp_path, num_subjects=3, duration_s=6.0, filmed_s=(2.0, 5.0))
    for part in parts(load(fused_content(uri), uri)):
        assert part.start_s_B.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] * 3
        assert part.present_B2[:, CLIP_COLUMN].tolist() == [False, False, True, True, False] * 3
        assert part.present_B2[:, SENSORS].all()


def test_a_training_part_without_one_of_the_inputs_is_an_error(tmp_path: Path) -> None:
    split = {"test_subjects": ["s0"], "validation_subjects": ["s1"]}
    (tmp_path / "a").mkdir()
    uri = write_filmed(tmp_path / "a", num_subjects=3, duration_s=4.0, without_video=[6, 7, 8])
    with pytest.raises(DatasetError, match="no training example has clips"):
        load(fused_content(uri, split=split), uri)
    (tmp_path / "b").mkdir()
    uri = write_filmed(tmp_path / "b", num_subjects=3, duration_s=4.0, without_sensors=[6, 7, 8])
    with pytest.raises(DatasetError, match="no training example has sensor windows"):
        load(fused_content(uri, split=split), uri)


def test_recordings_without_a_video_are_no_examples_of_clips(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        names = {name for name, _ in found(load(clip_content(uri), uri))}
    assert names == {f"r00{index}" for index in range(9)} - {WITHOUT_VIDEO}
    assert "1 of 9 recordings give no example" in caplog.text


def test_a_video_that_went_away_is_named(tmp_path: Path) -> None:
    uri = write_filmed(tmp_path, num_subjects=3, duration_s=4.0)
    (tmp_path / "video" / "r004.mp4").unlink()
    with pytest.raises(DatasetError, match="r004: its video cannot be read"):
        load(clip_content(uri), uri)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": None}, "takes clip: the recipe needs `clip:`"),
        ({"clip": {**CLIP, "length_s": 2.0}}, "clips span the windows: leave it out"),
        ({"model": {"name": "recurrent"}}, "takes no clip: leave `clip:` out"),
        ({"task": "regress", "target": {"metadata": "age"}}, "clip"),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_refused(
    uri: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load(fused_content(uri, **changes), uri)
