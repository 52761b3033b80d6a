"""From a recipe's preprocessing and split to windows, a trained network and its predictor."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.preprocessing import prepare
from motoric.artefact.signature import parse_signature
from motoric.core.errors import DatasetError, InputError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.optimization.export import export_onnx
from motoric.training.loop import Worker, fit, make_network
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.windows import SplitWindows, load_windows
from recordings import SineSource, recipe_content, write_dataset

FILTERS = {
    "rate_hz": 25.0,
    "max_gap_s": 0.2,
    "steps": [
        {"step": "hampel", "window_s": 0.3},
        {"step": "low_pass", "cutoff_hz": 8.0},
        {"step": "gravity_split", "cutoff_hz": 0.3},
    ],
}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=5, duration_s=30.0))
    return folder


def load(uri: str, **changes: Any) -> tuple[Recipe, SplitWindows]:
    recipe = parse_recipe(recipe_content(uri, **changes), "r")
    return recipe, load_windows(recipe, open_dataset(uri))


def test_filters_of_the_recipe_reach_the_network_and_the_predictor(uri: str) -> None:
    recipe, data = load(uri, preprocessing=FILTERS, train={"epochs": 1, "batch_size": 32})
    sensors = data.signature.sensors
    assert (sensors.rate_hz, sensors.num_samples) == (25.0, 50)
    # Gravity of 0.3 Hz settles over seconds, which windows carry before them.
    assert sensors.context_s > 3
    assert data.train.windows_BTC.shape[1:] == (sensors.num_input_samples, 3)
    assert data.signature.num_prepared_channels == 6
    weights = fit(recipe, data, worker=Worker(), on_epoch=lambda *_: None)
    network = make_network(recipe, data)
    network.load_state_dict(weights)
    network.eval()
    model = export_onnx(network, data.signature)
    # What is served reads the signature from its file.
    signature = parse_signature(data.signature.model_dump_json().encode(), "signature.json")
    predictor = Predictor(LoadedArtefact(uri="x", digest="", signature=signature, model=model))
    windows_BTC = data.test.windows_BTC[:8]
    with torch.no_grad():
        prepared = prepare(windows_BTC, signature.preprocessing, signature.sensors)
        expected = torch.softmax(network(torch.from_numpy(prepared)), dim=-1).numpy()
    np.testing.assert_allclose(predictor.predict(windows_BTC), expected, atol=1e-4)
    with pytest.raises(InputError, match="context"):
        predictor.predict(windows_BTC[:, -50:])


def test_the_normaliser_follows_from_training_people_alone(uri: str) -> None:
    _, data = load(uri, preprocessing=FILTERS)
    normaliser = data.signature.preprocessing.normaliser
    assert normaliser is not None
    without = data.signature.preprocessing.model_copy(update={"normaliser": None})
    train = prepare(data.train.windows_BTC, without, data.signature.sensors)
    flat = train.reshape(-1, train.shape[-1]).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, flat.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(normaliser.std, flat.std(axis=0), rtol=1e-4)


def test_channels_are_taken_by_name_and_a_missing_one_is_named(uri: str) -> None:
    _, data = load(uri, window={"length_s": 2.0, "channels": ["acc_z", "acc_x"]})
    _, whole = load(uri, window={"length_s": 2.0})
    np.testing.assert_array_equal(data.train.windows_BTC, whole.train.windows_BTC[:, :, [2, 0]])
    with pytest.raises(RecipeError, match=r"names mag_x, but stream 'imu' has acc_x"):
        load(uri, window={"channels": ["mag_x"]})


def test_recordings_of_several_rates_ask_for_one(tmp_path: Path) -> None:
    class TwoRates(SineSource):
        def recording(self, index: int) -> Any:
            made = super().recording(index)
            if index % 2:
                return made
            stream = made.streams[0]
            half = replace(
                stream, rate_hz=10.0, time_s=stream.time_s[::2], values_TC=stream.values_TC[::2]
            )
            return replace(made, streams=(half,))

    write_dataset(str(tmp_path), TwoRates(num_subjects=4, duration_s=20.0))
    with pytest.raises(DatasetError, match=r"at 10 to 20 Hz: set preprocessing\.rate_hz"):
        load(str(tmp_path))
    _, data = load(str(tmp_path), preprocessing={"rate_hz": 20.0})
    assert data.train.windows_BTC.shape[1] == 40
    parts = (data.train, data.validation, data.test)
    assert len({name for part in parts for name in part.recording_ids}) == 12


def test_too_short_a_context_is_warned_of(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(uri, preprocessing={**FILTERS, "context_s": 0.5})
    assert "the filters need" in caplog.text


def test_a_random_split_is_refused_unless_its_name_says_that_it_leaks(uri: str) -> None:
    with pytest.raises(RecipeError, match="random_windows_leaking_subjects"):
        load(uri, split={"kind": "random"})
    recipe, data = load(uri, split={"kind": "random_windows_leaking_subjects"})
    assert set(data.train.subjects) == set(data.test.subjects)
    assert "leaks" in recipe.tested_on
    whole = len(data.train) + len(data.validation) + len(data.test)
    assert len(data.test) == pytest.approx(0.2 * whole, abs=2)


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_tests_people_that_it_does_not_train_on(uri: str, fold: int) -> None:
    _, data = load(uri, split={"kind": "group_k_fold", "num_folds": 3, "fold": fold})
    assert not set(data.train.subjects) & set(data.test.subjects)
    assert set(data.test.subjects) == set(data.split.test)
