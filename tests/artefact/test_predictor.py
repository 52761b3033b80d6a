"""What is exported says what the network says, whatever of its inputs it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from artefacts import small_graph, small_signature
from filmed import clip_content, fused_content, write_filmed
from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.core.errors import ArtefactError, InputError
from motoric.data.dataset import open_dataset
from motoric.training.examples import Examples
from motoric.training.partition import load_split
from motoric.training.recipe import parse_recipe
from trainings import Trained, train_here

ONE_EPOCH = {"epochs": 1, "batch_size": 8}
PEOPLE = {"test_subjects": ["s0"], "validation_subjects": ["s1"]}
FRAMES = {"name": "frame_recurrent", "channels": [4], "frame_features": 8, "hidden_size": 4}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_filmed(
        tmp_path_factory.mktemp("filmed"),
        num_subjects=3,
        duration_s=6.0,
        without_video=[0],
        without_sensors=[1],
    )


def train(uri: str, content: dict[str, Any]) -> Trained:
    recipe = parse_recipe({**content, "split": PEOPLE, "train": ONE_EPOCH}, "r")
    return train_here(recipe, load_split(recipe, open_dataset(uri)))


@pytest.fixture(scope="module")
def fused(uri: str) -> tuple[Trained, Predictor]:
    made = train(uri, fused_content(uri))
    return made, made.predictor()


def of_kind(examples: Examples, present: list[bool]) -> Examples:
    return examples.take((examples.present_B2 == present).all(axis=1))


def hidden(examples: Examples, column: int) -> Examples:
    """Examples with both, as if one of them were not there."""
    both = of_kind(examples, [True, True])
    both.present_B2[:, column] = False
    return both


def test_with_both_inputs_it_says_what_the_network_says(fused: tuple[Trained, Predictor]) -> None:
    made, predictor = fused
    both = of_kind(made.data.test, [True, True])
    assert len(both) == 5
    found_BK = predictor.predict(both.windows_BTC, both.clips_BTHWC)
    np.testing.assert_allclose(found_BK, made.predicted(both), atol=1e-4)


def test_with_sensors_alone_it_says_what_the_network_says(
    fused: tuple[Trained, Predictor],
) -> None:
    made, predictor = fused
    for examples in (of_kind(made.data.test, [True, False]), hidden(made.data.test, 1)):
        assert len(examples) == 5
        found_BK = predictor.predict(windows=examples.windows_BTC)
        np.testing.assert_allclose(found_BK, made.predicted(examples), atol=1e-4)


def test_with_clips_alone_it_says_what_the_network_says(fused: tuple[Trained, Predictor]) -> None:
    made, predictor = fused
    for examples in (of_kind(made.data.test, [False, True]), hidden(made.data.test, 0)):
        assert len(examples) == 5
        found_BK = predictor.predict(clips=examples.clips_BTHWC)
        np.testing.assert_allclose(found_BK, made.predicted(examples), atol=1e-4)


def test_a_mixture_is_told_apart_by_present(fused: tuple[Trained, Predictor]) -> None:
    made, predictor = fused
    test = made.data.test
    kinds = {tuple(row) for row in test.present_B2.tolist()}
    assert kinds == {(True, True), (True, False), (False, True)}
    found_BK = predictor.predict(test.windows_BTC, test.clips_BTHWC, test.present_B2)
    np.testing.assert_allclose(found_BK, made.predicted(test), atol=1e-4)


def test_many_examples_are_run_in_parts(fused: tuple[Trained, Predictor]) -> None:
    made, predictor = fused
    test = made.data.test
    order = np.random.default_rng(0).integers(0, len(test), 40)
    many = test.take(order)
    found_BK = predictor.predict(many.windows_BTC, many.clips_BTHWC, many.present_B2)
    whole_BK = predictor.predict(test.windows_BTC, test.clips_BTHWC, test.present_B2)
    np.testing.assert_allclose(found_BK, whole_BK[order], atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": FRAMES},
        {"clip": {"num_frames": 6, "height": 16, "width": 24, "colour": "grey"}},
    ],
    ids=["frame_recurrent", "r2plus1d"],
)
def test_a_model_of_clips_alone_says_what_the_network_says(
    uri: str, changes: dict[str, Any]
) -> None:
    made = train(uri, clip_content(uri, **changes))
    predictor, test = made.predictor(), made.data.test
    assert test.clips_BTHWC is not None
    expected_BK = made.predicted(test)
    np.testing.assert_allclose(predictor.predict(clips=test.clips_BTHWC), expected_BK, atol=1e-4)
    single_BK = predictor.predict(clips=test.clips_BTHWC[0])
    np.testing.assert_allclose(single_BK, expected_BK[:1], atol=1e-4)
    with pytest.raises(InputError, match="takes no windows"):
        predictor.predict(np.zeros((1, 40, 3)), test.clips_BTHWC[:1])
    with pytest.raises(InputError, match="needs clips"):
        predictor.predict()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither windows nor clips"),
        ({"windows": (2, 40, 3), "clips": (3, 8, 16, 16, 3)}, "2 and 3 windows and clips"),
        ({"windows": (2, 39, 3)}, "40 samples at 20 Hz"),
        ({"clips": (2, 8, 16, 16, 1)}, r"8 frames of 16 x 16 pixels, rgb; got \[8, 16, 16, 1\]"),
        ({"windows": (2, 40, 3), "present": (3, 2)}, "present must be of shape"),
        ({"windows": (2, 40, 3), "present": (2, 2)}, "one input or more each"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    fused: tuple[Trained, Predictor], given: dict[str, tuple[int, ...]], message: str
) -> None:
    types: dict[str, Any] = {"windows": np.float32, "clips": np.uint8, "present": np.bool_}
    values = {name: np.zeros(shape, types[name]) for name, shape in given.items()}
    with pytest.raises(InputError, match=message):
        fused[1].predict(**values)


def test_clips_must_be_bytes(fused: tuple[Trained, Predictor]) -> None:
    with pytest.raises(InputError, match="must be uint8"):
        fused[1].predict(clips=np.zeros((1, 8, 16, 16, 3), np.float32))


def test_an_input_that_is_said_to_be_there_must_be_given(fused: tuple[Trained, Predictor]) -> None:
    with pytest.raises(InputError, match="present"):
        fused[1].predict(windows=np.zeros((1, 40, 3)), present=np.array([[True, True]]))


def test_values_that_are_not_finite_are_refused(fused: tuple[Trained, Predictor]) -> None:
    windows_BTC = np.zeros((2, 40, 3))
    windows_BTC[1, 2, 0] = np.nan
    with pytest.raises(InputError, match="window 1, sample 2, channel acc_x"):
        fused[1].predict(windows_BTC)


def test_a_graph_that_does_not_load_is_an_error_of_the_artefact() -> None:
    signature = small_signature()
    broken = LoadedArtefact(uri="a/b", digest="", signature=signature, model=b"none")
    with pytest.raises(ArtefactError, match="a/b: the ONNX graph does not load"):
        Predictor(broken)
    whole = LoadedArtefact(
        uri="a/b", digest="", signature=signature, model=small_graph((0.0, 0.0, 0.0))
    )
    predictor = Predictor(whole)
    windows_BTC = np.zeros((600, 10, 4), np.float32)
    np.testing.assert_allclose(predictor.predict(windows_BTC), 1 / 3, atol=1e-6)
    assert predictor.predict_checked(windows_BTC).shape == (600, 3)
