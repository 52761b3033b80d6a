"""What is exported says what the network says, whatever of its inputs it is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from artefacts import small_graph, small_signature
from exported import CLIP, MODEL, WINDOW, Exported, clip_input_of, exported
from filmed import clip_content, fused_content, write_filmed
from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.core.errors import ArtefactError, InputError
from motoric.data.dataset import open_dataset
from motoric.training.examples import Examples, SplitExamples
from motoric.training.loop import predict_examples
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe, parse_recipe

PEOPLE = {"test_subjects": ["s0"], "validation_subjects": ["s1"]}
ALONE = {**CLIP, "length_s": 0.65, "hop_s": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An exported network beside the examples of a recipe, and the predictor of both."""

    exported: Exported
    recipe: Recipe
    data: SplitExamples
    predictor: Predictor

    def says(self, examples: Examples) -> NDArray[np.float32]:
        """What the network says, as training asks it."""
        return predict_examples(self.exported.network, self.recipe, self.data, examples)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_filmed(
        tmp_path_factory.mktemp("filmed"),
        num_subjects=3,
        duration_s=5.0,
        without_video=[0],
        without_sensors=[1],
    )


def make(uri: str, content: dict[str, Any]) -> Made:
    recipe = parse_recipe({**content, "split": PEOPLE}, "r")
    data, found = load_split(recipe, open_dataset(uri)), exported(recipe.model["name"])
    # The normaliser of clips is in the graph.
    changes = {"preprocessing": found.signature.preprocessing}
    signature = data.signature.model_copy(update=changes)
    return Made(
        exported=found,
        recipe=recipe,
        data=replace(data, signature=signature),
        predictor=found.predictor(signature),
    )


@pytest.fixture(scope="module")
def fused(uri: str) -> Made:
    model = {"name": "fusion", **MODEL["fusion"]}
    return make(uri, fused_content(uri, window=WINDOW, clip=CLIP, model=model))


def of_kind(examples: Examples, present: list[bool]) -> Examples:
    return examples.take((examples.present_B2 == present).all(axis=1))


def hidden(examples: Examples, column: int) -> Examples:
    """Examples with both, as if one of them were not there."""
    both = of_kind(examples, [True, True])
    both.present_B2[:, column] = False
    return both


def test_with_both_inputs_it_says_what_the_network_says(fused: Made) -> None:
    both = of_kind(fused.data.test, [True, True])
    assert len(both) == 5
    found_BK = fused.predictor.predict(both.windows_BTC, both.clips_BTHWC)
    np.testing.assert_allclose(found_BK, fused.says(both), atol=1e-4)


def test_with_sensors_alone_it_says_what_the_network_says(
    fused: Made,
) -> None:
    for examples in (of_kind(fused.data.test, [True, False]), hidden(fused.data.test, 1)):
        assert len(examples) == 5
        found_BK = fused.predictor.predict(windows=examples.windows_BTC)
        np.testing.assert_allclose(found_BK, fused.says(examples), atol=1e-4)


def test_with_clips_alone_it_says_what_the_network_says(fused: Made) -> None:
    for examples in (of_kind(fused.data.test, [False, True]), hidden(fused.data.test, 0)):
        assert len(examples) == 5
        found_BK = fused.predictor.predict(clips=examples.clips_BTHWC)
        np.testing.assert_allclose(found_BK, fused.says(examples), atol=1e-4)


def test_a_mixture_is_told_apart_by_present(fused: Made) -> None:
    test = fused.data.test
    kinds = {tuple(row) for row in test.present_B2.tolist()}
    assert kinds == {(True, True), (True, False), (False, True)}
    found_BK = fused.predictor.predict(test.windows_BTC, test.clips_BTHWC, test.present_B2)
    np.testing.assert_allclose(found_BK, fused.says(test), atol=1e-4)


def test_many_examples_are_run_in_parts(fused: Made) -> None:
    test = fused.data.test
    order = np.random.default_rng(0).integers(0, len(test), 40)
    many = test.take(order)
    found_BK = fused.predictor.predict(many.windows_BTC, many.clips_BTHWC, many.present_B2)
    whole_BK = fused.predictor.predict(test.windows_BTC, test.clips_BTHWC, test.present_B2)
    np.testing.assert_allclose(found_BK, whole_BK[order], atol=1e-5)


@pytest.mark.parametrize("name", ["frame_recurrent", "r2plus1d"])
def test_a_model_of_clips_alone_says_what_the_network_says(uri: str, name: str) -> None:
    clip = {**ALONE, "colour": clip_input_of(name).colour}
    made = make(uri, clip_content(uri, clip=clip, model={"name": name, **MODEL[name]}))
    predictor, clips_BTHWC = made.predictor, made.data.test.clips_BTHWC
    assert clips_BTHWC is not None
    expected_BK = made.says(made.data.test)
    np.testing.assert_allclose(predictor.predict(clips=clips_BTHWC), expected_BK, atol=1e-4)
    single_BK = predictor.predict(clips=clips_BTHWC[0])
    np.testing.assert_allclose(single_BK, expected_BK[:1], atol=1e-4)
    with pytest.raises(InputError, match="takes no windows"):
        predictor.predict(np.zeros((1, 13, 3)), clips_BTHWC[:1])
    with pytest.raises(InputError, match="needs clips"):
        predictor.predict()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither windows nor clips"),
        ({"windows": (2, 13, 3), "clips": (3, 3, 15, 18, 3)}, "2 and 3 windows and clips"),
        ({"windows": (2, 12, 3)}, "13 samples at 20 Hz"),
        ({"clips": (2, 3, 15, 18, 1)}, r"3 frames of 15 x 18 pixels, rgb; got \[3, 15, 18, 1\]"),
        ({"windows": (2, 13, 3), "present": (3, 2)}, "present must be of shape"),
        ({"windows": (2, 13, 3), "present": (2, 2)}, "one input or more each"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    fused: Made, given: dict[str, tuple[int, ...]], message: str
) -> None:
    types: dict[str, Any] = {"windows": np.float32, "clips": np.uint8, "present": np.bool_}
    values = {name: np.zeros(shape, types[name]) for name, shape in given.items()}
    with pytest.raises(InputError, match=message):
        fused.predictor.predict(**values)


def test_clips_must_be_bytes(fused: Made) -> None:
    with pytest.raises(InputError, match="must be uint8"):
        fused.predictor.predict(clips=np.zeros((1, 3, 15, 18, 3), np.float32))


def test_an_input_that_is_said_to_be_there_must_be_given(fused: Made) -> None:
    with pytest.raises(InputError, match="present"):
        fused.predictor.predict(windows=np.zeros((1, 13, 3)), present=np.array([[True, True]]))


def test_values_that_are_not_finite_are_refused(fused: Made) -> None:
    windows_BTC = np.zeros((2, 13, 3))
    windows_BTC[1, 2, 0] = np.nan
    with pytest.raises(InputError, match="window 1, sample 2, channel acc_x"):
        fused.predictor.predict(windows_BTC)


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
