from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.data.recording import Annotation, Recording
from motoric.training.loading import load_examples
from motoric.training.partition import split_examples
from motoric.training.split import Split
from recordings import LABELS, SineSource, write_dataset
from trainings import inputs_of, load, recipe_of

PEOPLE = {"test_subjects": ["s3"], "validation_subjects": ["s2"]}


class Changed(SineSource):
    """Recordings that a test changes."""

    def __init__(self, change: Callable[[int, Recording], Recording], **more: Any) -> None:
        super().__init__(**more)
        self.change = change

    def recording(self, index: int) -> Recording:
        return self.change(index, super().recording(index))


def relabelled(subject: str, label: str) -> Callable[[int, Recording], Recording]:
    """One person's recording of a walk gets another label."""

    def change(_: int, made: Recording) -> Recording:
        (only,) = made.annotations
        if made.subject != subject or only.label != "walk":
            return made
        return replace(made, annotations=(replace(only, label=label),))

    return change


def unknown(_: int, made: Recording) -> Recording:
    return replace(made, subject=f"unknown:{made.recording_id}")


def write(folder: Path, source: SineSource) -> str:
    write_dataset(str(folder), source)
    return str(folder)


def test_a_label_that_only_test_has_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = Changed(relabelled("s3", "dive"), num_subjects=4, duration_s=6.0)
    with pytest.raises(DatasetError, match=r"no training subject has an example of: dive"):
        load(write(tmp_path, source), split=PEOPLE)


def test_a_label_that_only_training_has_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Changed(relabelled("s0", "dive"), num_subjects=4, duration_s=6.0)
    with caplog.at_level(logging.WARNING):
        _, data = load(write(tmp_path, source), split=PEOPLE)
    assert "no test subject has an example of dive" in caplog.text
    assert data.train.classes == ("dive", *LABELS)


def test_labels_that_the_recipe_names_are_the_classes_in_its_order(tmp_path: Path) -> None:
    source = Changed(relabelled("s3", "dive"), num_subjects=4, duration_s=6.0)
    uri = write(tmp_path, source)
    _, data = load(uri, split=PEOPLE, labels=["walk", "jump"])
    assert data.signature.classes == ("walk", "jump")
    index = data.train.recording_ids.index("r000")
    assert data.train.targets_B[index] == 1
    assert "r001" not in data.train.recording_ids
    with pytest.raises(RecipeError, match="labels names run, but the dataset has dive, jump"):
        load(uri, labels=["walk", "run"])
    with pytest.raises(DatasetError, match=r"1 label\(s\)"):
        load(uri, labels=["walk"])


def test_only_recordings_with_the_wanted_metadata_are_taken(tmp_path: Path) -> None:
    uri = write(tmp_path, SineSource(num_subjects=6, duration_s=6.0))
    _, data = load(uri, where={"side": "left"})
    people = {*data.train.subjects, *data.validation.subjects, *data.test.subjects}
    assert people == {"s1", "s3", "s5"}
    with pytest.raises(
        RecipeError, match=r"where\.side is 'top', but the dataset has: left, right"
    ):
        load(uri, where={"side": "top"})
    with pytest.raises(RecipeError, match=r"where\.age is '3', but .* no recording has it"):
        load(uri, where={"age": "3"})


def test_files_of_unknown_people_are_divided_by_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = write(tmp_path, Changed(unknown, num_subjects=4, duration_s=6.0))
    with pytest.raises(DatasetError, match="0 known subject"):
        load(uri)
    split = {"by": "recording", "num_test_subjects": 3, "num_validation_subjects": 3}
    with caplog.at_level(logging.WARNING):
        recipe, data = load(uri, split=split)
    assert "may be in training and in test" in caplog.text
    assert "never seen" in recipe.tested_on
    assert "recordings" in recipe.tested_on
    parts = [set(part.recording_ids) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [6, 3, 3]
    assert len(set.union(*parts)) == 12
    assert data.signature.training_statistics is not None
    assert data.signature.training_statistics.num_subjects == 0


def test_the_statistics_count_people_and_not_recordings(tmp_path: Path) -> None:
    uri = write(tmp_path, SineSource(num_subjects=4, duration_s=6.0))
    split = {"by": "recording", "num_test_subjects": 3, "num_validation_subjects": 3}
    _, data = load(uri, split=split)
    statistics = data.signature.training_statistics
    assert statistics is not None
    assert statistics.num_subjects == len(set(data.train.subjects))
    assert statistics.num_windows == len(data.train)
    assert data.train.windows_BTC is not None
    np.testing.assert_array_equal(statistics.channel_max, data.train.windows_BTC.max((0, 1)))


def test_unknown_people_beside_known_ones_train(tmp_path: Path) -> None:
    def change(index: int, made: Recording) -> Recording:
        return unknown(index, made) if made.subject == "s0" else made

    _, data = load(write(tmp_path, Changed(change, num_subjects=4, duration_s=6.0)))
    assert {name for name in data.train.subjects if name.startswith("unknown:")} == {
        "unknown:r000",
        "unknown:r001",
        "unknown:r002",
    }
    assert not any(name.startswith("unknown:") for name in {*data.test.subjects})


def short_annotation(_: int, made: Recording) -> Recording:
    """The recordings of one person have no label for long enough."""
    if made.subject != "s2":
        return made
    return replace(made, annotations=(Annotation(start_s=0, end_s=1, label="walk"),))


def test_people_who_give_no_example_are_in_no_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = write(tmp_path, Changed(short_annotation, num_subjects=4, duration_s=6.0))
    with caplog.at_level(logging.WARNING):
        _, data = load(uri)
    assert "3 of 12 recordings give no example" in caplog.text
    split = data.split
    assert sorted([*split.train, *split.validation, *split.test]) == ["s0", "s1", "s3"]
    with pytest.raises(RecipeError, match="split names s2, but the dataset has s0, s1, s3"):
        load(uri, split=PEOPLE)


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_part_without_an_example_is_named(tmp_path: Path, part: str) -> None:
    uri = write(tmp_path, Changed(short_annotation, num_subjects=4, duration_s=6.0))
    recipe = recipe_of(uri)
    inputs = inputs_of(recipe)
    examples = load_examples(recipe, open_dataset(uri), inputs)
    people = {"training": ("s0",), "validation": ("s1",), "test": ("s3",)} | {part: ("s2",)}
    split = Split(train=people["training"], validation=people["validation"], test=people["test"])
    with pytest.raises(DatasetError, match=f"the {part} part has no example"):
        split_examples(recipe, inputs, examples, split)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (SineSource(num_subjects=1), {}, r"1 known subject\(s\)"),
        (SineSource(labels=("walk",)), {}, r"1 label\(s\)"),
        (SineSource(), {"window": {"stream": "gyro"}}, "no stream 'gyro'"),
        (SineSource(duration_s=3.0), {"window": {"length_s": 5.0}}, "shorten window.length_s"),
    ],
)
def test_a_dataset_that_does_not_fit_is_a_clear_error(
    tmp_path: Path, source: SineSource, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        load(write(tmp_path, source), **changes)


def test_loading_twice_gives_the_same(tmp_path: Path) -> None:
    uri = write(tmp_path, SineSource(num_subjects=4, duration_s=6.0))
    (_, first), (_, second) = load(uri), load(uri)
    assert first.signature == second.signature
    assert first.split == second.split
    np.testing.assert_array_equal(first.train.start_s_B, second.train.start_s_B)
