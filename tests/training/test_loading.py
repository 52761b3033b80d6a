"""From a recipe's preprocessing and split to windows, a trained network and its predictor."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artefacts import small_graph
from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.preprocessing import prepare
from motoric.artefact.signature import parse_signature
from motoric.core.errors import DatasetError, InputError, RecipeError
from motoric.data.recording import Annotation, Recording
from motoric.training.loop import make_network, predict_examples
from recordings import CHANNELS, SineSource, write_dataset
from trainings import load

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


def test_filters_of_the_recipe_reach_the_network_and_the_predictor(uri: str) -> None:
    recipe, data = load(uri, preprocessing=FILTERS)
    sensors = data.signature.sensors
    assert (sensors.rate_hz, sensors.num_samples) == (25.0, 50)
    # Gravity of 0.3 Hz settles over seconds, which windows carry before them.
    assert sensors.context_s > 3
    assert data.train.windows_BTC is not None
    assert data.test.windows_BTC is not None
    assert data.train.windows_BTC.shape[1:] == (sensors.num_input_samples, 3)
    assert data.signature.num_prepared_channels == 6
    signature, windows_BTC = data.signature, data.test.windows_BTC[:8]
    prepared_BTC = torch.from_numpy(
        prepare(windows_BTC, signature.preprocessing, signature.sensors)
    )
    network = make_network(recipe, data).eval()
    with torch.no_grad():
        expected_BK = torch.softmax(network(prepared_BTC), dim=-1).numpy()
    found_BK = predict_examples(network, recipe, data, data.test.take(np.arange(8)))
    np.testing.assert_allclose(found_BK, expected_BK, atol=1e-5)
    # The graph sums each channel over time, so that no export is needed.
    graph = small_graph((0.0, 0.1, 0.2), num_samples=50, num_channels=6)
    summed_BK = prepared_BTC.sum(dim=1)[:, :3] + torch.tensor([0.0, 0.1, 0.2])
    signature = parse_signature(signature.model_dump_json().encode(), "signature")
    predictor = Predictor(LoadedArtefact(uri="x", digest="", signature=signature, model=graph))
    np.testing.assert_allclose(
        predictor.predict(windows_BTC), torch.softmax(summed_BK, dim=-1), atol=1e-4
    )
    with pytest.raises(InputError, match="context"):
        predictor.predict(windows_BTC[:, -50:])


def test_the_normaliser_follows_from_training_people_alone(uri: str) -> None:
    _, data = load(uri, preprocessing=FILTERS)
    normaliser = data.signature.preprocessing.normaliser
    assert normaliser is not None
    without = data.signature.preprocessing.model_copy(update={"normaliser": None})
    assert data.train.windows_BTC is not None
    train = prepare(data.train.windows_BTC, without, data.signature.sensors)
    flat = train.reshape(-1, train.shape[-1]).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, flat.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(normaliser.std, flat.std(axis=0), rtol=1e-4)


def test_channels_are_taken_by_name_and_a_missing_one_is_named(uri: str) -> None:
    _, data = load(uri, window={"length_s": 2.0, "channels": ["acc_z", "acc_x"]})
    _, whole = load(uri, window={"length_s": 2.0})
    assert whole.train.windows_BTC is not None
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


class Changed(SineSource):
    """The first two recordings lose a channel or their stream; of each person one moves thrice."""

    change = ""

    def recording(self, index: int) -> Recording:
        made = super().recording(index)
        stream = made.streams[0]
        if self.change == "moves":
            moves = [(1.0, 2.0), (5.0, 8.0), (10.0, 12.0)]
            label = made.annotations[0].label
            annotations = [Annotation(start_s=a, end_s=b, label=label) for a, b in moves]
            return replace(made, annotations=tuple(annotations))
        if index > 1:
            return made
        if self.change == "stream":
            return replace(made, streams=(replace(stream, name="other"),))
        fewer = replace(stream, channels=CHANNELS[:2], values_TC=stream.values_TC[:, :2])
        return replace(made, streams=(fewer,))


def changed(folder: Path, change: str) -> str:
    source = Changed(num_subjects=4, duration_s=14.0)
    source.change = change
    write_dataset(str(folder), source)
    return str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("channel", "2 recording(s) lack a channel of acc_x, acc_y, acc_z and are left out"),
        ("stream", "2 recording(s) have no stream 'imu' and are left out"),
    ],
)
def test_recordings_that_lack_an_input_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str, message: str
) -> None:
    uri = changed(tmp_path, change)
    with caplog.at_level(logging.WARNING):
        _, data = load(uri, split={"test_subjects": ["s3"], "validation_subjects": ["s2"]})
    assert message in caplog.text
    assert sorted(set(data.train.recording_ids)) == ["r002", "r003", "r004", "r005"]
    caplog.clear()
    _, fewer = load(uri, window={"length_s": 2.0, "channels": ["acc_x"]})
    assert ("lack" in caplog.text) is False
    parts = (fewer.train, fewer.validation, fewer.test)
    found = {name for part in parts for name in part.recording_ids}
    assert len(found) == (12 if change == "channel" else 10)


def test_where_no_recording_has_all_channels_the_error_says_so(tmp_path: Path) -> None:
    class Apart(SineSource):
        def recording(self, index: int) -> Recording:
            made = super().recording(index)
            stream = made.streams[0]
            kept = [0, 1 + index % 2]
            channels = tuple(CHANNELS[column] for column in kept)
            part = replace(stream, channels=channels, values_TC=stream.values_TC[:, kept])
            return replace(made, streams=(part,))

    write_dataset(str(tmp_path), Apart(num_subjects=4, duration_s=6.0))
    with pytest.raises(DatasetError, match=r"no recording has all channels .*window\.channels"):
        load(str(tmp_path))
    _, data = load(str(tmp_path), window={"length_s": 2.0, "channels": ["acc_x"]})
    assert len(data.train)


def test_a_movement_of_any_length_is_one_window(tmp_path: Path) -> None:
    window = {"stream": "imu", "length_s": 2.0, "span": "annotation"}
    _, data = load(changed(tmp_path, "moves"), window=window)
    assert data.train.windows_BTC is not None
    assert len(set(data.train.recording_ids[:3])) == 1
    assert len(data.train) == 2 * 3 * 3
    np.testing.assert_allclose(data.train.start_s_B[:3], [1.0, 5.5, 10.0], atol=0.06)
    np.testing.assert_allclose(data.train.end_s_B[:3], [2.05, 7.5, 12.0], atol=0.06)
    short_TC = data.train.windows_BTC[0]
    assert (short_TC[:9] == short_TC[0]).all()
    assert (short_TC[-9:] == short_TC[-1]).all()
    assert not (short_TC[11:15] == short_TC[0]).any()


def test_a_movement_is_stretched_where_the_recipe_and_so_the_signature_says_so(
    tmp_path: Path,
) -> None:
    window = {"stream": "imu", "length_s": 2.0, "span": "annotation", "fit": "stretch"}
    _, data = load(changed(tmp_path, "moves"), window=window)
    assert data.signature.sensor_input is not None
    assert data.signature.sensor_input.fit == "stretch"
    assert data.train.windows_BTC is not None
    short_TC = data.train.windows_BTC[0]
    assert (np.abs(np.diff(short_TC, axis=0)).max(axis=1) > 0).all()


def test_a_forecast_looks_ahead_from_the_last_sample(uri: str) -> None:
    changes = {"task": "forecast", "target": {"channel": "acc_y"}, "horizon_s": 0.5}
    _, data = load(uri, **changes)
    train = data.train
    assert train.windows_BTC is not None
    assert train.persistence_B is not None
    assert train.windows_BTC.shape[1:] == (40, 3)
    np.testing.assert_array_equal(train.persistence_B, train.windows_BTC[:, -1, 1])
    # A window that starts 1 s later holds what was 0.5 s ahead of this one's end.
    assert (np.diff(train.start_s_B[:5]) == 1.0).all()
    np.testing.assert_array_equal(train.targets_B[:4], train.windows_BTC[1:5, 29, 1])
    np.testing.assert_allclose(train.end_s_B, train.start_s_B + 2.0)


def test_the_target_of_a_channel_is_its_mean_over_the_window_alone(uri: str) -> None:
    changes: dict[str, Any] = {"task": "regress", "target": {"channel": "acc_z"}}
    window = {"stream": "imu", "length_s": 0.5, "hop_s": 1.0, "channels": ["acc_x"]}
    _, data = load(uri, **changes, window=window, preprocessing={"context_s": 2.0})
    whole = {**window, "channels": ["acc_z"]}
    _, other = load(uri, window=whole)
    assert data.train.windows_BTC is not None
    assert other.train.windows_BTC is not None
    assert data.train.windows_BTC.shape[1:] == (50, 1)
    means_B = other.train.windows_BTC[:, :, 0].mean(axis=1)
    np.testing.assert_allclose(data.train.targets_B, means_B, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regress", "target": {"channel": "acc_x"}}, "is an input too"),
        ({"task": "regress", "target": {"channel": "bpm"}}, "is 'bpm', but stream 'imu' has acc_x"),
        ({"task": "regress", "target": {"metadata": "age"}}, "no recording has it"),
        ({"task": "regress", "target": {"metadata": "side"}}, "is 'right', which is no number"),
        (
            {
                "task": "forecast",
                "target": {"channel": "acc_x"},
                "horizon_s": 1,
                "window": {"channels": ["acc_y"]},
            },
            "needs its past: add it to window.channels",
        ),
        (
            {"task": "forecast", "target": {"channel": "acc_x"}, "horizon_s": 0.01},
            "less than a sample at 20 Hz",
        ),
        (
            {
                "task": "forecast",
                "target": {"channel": "acc_x"},
                "horizon_s": 1,
                "preprocessing": {"steps": [{"step": "gravity_split", "keep": "gravity"}]},
            },
            "changed by the step gravity_split",
        ),
    ],
)
def test_a_target_that_does_not_fit_is_named(
    uri: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load(uri, **changes)


def test_recordings_without_the_number_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Some(SineSource):
        def recording(self, index: int) -> Recording:
            made = super().recording(index)
            return made if index == 2 else replace(made, metadata={"age": str(20 + index)})

    write_dataset(str(tmp_path), Some(num_subjects=4, duration_s=6.0))
    with caplog.at_level(logging.WARNING):
        _, data = load(str(tmp_path), task="regress", target={"metadata": "age"})
    assert "1 recording(s) have no metadata 'age' and are left out" in caplog.text
    parts = (data.train, data.validation, data.test)
    assert "r002" not in {name for part in parts for name in part.recording_ids}
