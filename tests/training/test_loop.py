from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motoric.core.errors import RecipeError
from motoric.training.loop import fit, make_network, predict_examples
from motoric.training.progress import EpochReport
from motoric.training.run import State, Worker
from recordings import LABELS, SineSource, write_dataset
from trainings import Trained, load, train_here

FORECAST = {
    "task": "forecast",
    "target": {"channel": "acc_x"},
    "horizon_s": 0.3,
    "window": {"stream": "imu", "length_s": 2.0, "hop_s": 0.5},
}
CHANNEL = {
    "task": "regress",
    "target": {"channel": "acc_x"},
    "window": {"stream": "imu", "length_s": 0.5, "hop_s": 0.5, "channels": ["acc_y", "acc_z"]},
}
CLOSED_FORM = {"name": "random_kernels", "num_features": 168}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=30.0))
    return folder


def run(uri: str, **changes: Any) -> Trained:
    return train_here(*load(uri, **changes))


def same(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_classes_of_people_never_seen_are_told_apart(uri: str) -> None:
    made = run(uri, train={"epochs": 6, "batch_size": 16})
    assert not set(made.data.train.subjects) & set(made.data.test.subjects)
    assert made.epochs[-1].train_loss < made.epochs[0].train_loss
    probabilities_BK = made.predicted(made.data.test)
    np.testing.assert_allclose(probabilities_BK.sum(axis=1), 1, atol=1e-5)
    assert (probabilities_BK.argmax(axis=1) == made.data.test.targets_B).mean() > 0.9
    assert [report.epoch for report in made.epochs] == list(range(6))
    assert made.epochs[-1].score_name == "accuracy"
    assert made.epochs[-1].validation_score == pytest.approx(1.0, abs=0.1)


def test_the_mean_of_a_channel_that_is_no_input_is_found(uri: str) -> None:
    made = run(uri, **CHANNEL, train={"epochs": 10, "batch_size": 32})
    test, train = made.data.test, made.data.train
    assert made.data.signature.sensors.num_channels == 2
    error = np.abs(made.predicted(test)[:, 0] - test.targets_B).mean()
    assert error < 0.5 * np.abs(train.targets_B.mean() - test.targets_B).mean()
    assert made.epochs[0].score_name == "MAE, m/s^2"


def test_a_number_of_the_recording_is_found(tmp_path: Path) -> None:
    class Scaled(SineSource):
        def recording(self, index: int) -> Any:
            made = super().recording(index)
            made.metadata["speed"] = str(10.0 + 5.0 * (index % len(LABELS)))
            return made

    write_dataset(str(tmp_path), Scaled(num_subjects=4, duration_s=20.0))
    target = {"metadata": "speed", "unit": "m/s"}
    made = run(str(tmp_path), task="regress", target=target, train={"epochs": 10, "batch_size": 16})
    test = made.data.test
    assert set(test.targets_B.tolist()) == {10.0, 15.0, 20.0}
    error = np.abs(made.predicted(test)[:, 0] - test.targets_B).mean()
    assert error < 1.5
    assert made.epochs[-1].score_name == "MAE, m/s"


def test_an_untrained_forecast_repeats_the_present(uri: str) -> None:
    recipe, data = load(uri, **FORECAST)
    network = make_network(recipe, data)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    predicted_BQ = predict_examples(network, recipe, data, data.test)
    persistence_B = data.test.persistence_B
    assert persistence_B is not None
    for column in predicted_BQ.T:
        np.testing.assert_allclose(column, persistence_B, atol=1e-4)


def test_a_trained_forecast_beats_the_present_and_its_quantiles_rise(uri: str) -> None:
    made = run(uri, **FORECAST, train={"epochs": 8, "batch_size": 32})
    test = made.data.test
    assert test.persistence_B is not None
    predicted_BQ = made.predicted(test)
    assert (np.diff(predicted_BQ, axis=1) >= 0).all()
    error = np.abs(predicted_BQ[:, 1] - test.targets_B).mean()
    assert error < 0.5 * np.abs(test.persistence_B - test.targets_B).mean()
    covered = (predicted_BQ[:, 0] <= test.targets_B) & (test.targets_B <= predicted_BQ[:, 2])
    assert covered.mean() > 0.4


def test_the_same_seed_gives_the_same_weights(uri: str) -> None:
    changes = {
        "augmentation": {"rotation_deg": 10, "scale_std": 0.1, "jitter_std": 0.1},
        "model": {"name": "recurrent", "hidden_size": 4, "stem_channels": 4, "dropout": 0.5},
    }
    first, second = run(uri, **changes), run(uri, **changes)
    assert same(first.weights, second.weights)
    other = run(uri, **changes, train={"epochs": 3, "batch_size": 32, "seed": 1})
    assert not same(first.weights, other.weights)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_epoch_that_was_asked_for_is_kept(uri: str, keep: str) -> None:
    states: list[State] = []
    losses: list[float] = []

    def on_epoch(report: EpochReport, kept: State) -> None:
        assert report.validation_loss is not None
        assert report.is_best == (report.validation_loss < min(losses, default=np.inf))
        losses.append(report.validation_loss)
        states.append(kept)

    recipe, data = load(
        uri,
        optimiser={"learning_rate": 0.3},
        train={"epochs": 6, "batch_size": 16},
        stopping={"keep": keep},
    )
    made = train_here(recipe, data, on_epoch)
    best = int(np.argmin(losses))
    assert same(made.weights, states[best if keep == "best" else -1])
    assert best < 5, "the learning rate no longer makes the last epoch worse"
    assert same(states[best], states[-1]) == (keep == "best")


def test_patience_stops_early(uri: str) -> None:
    made = run(
        uri,
        optimiser={"learning_rate": 0.5},
        schedule={"name": "constant"},
        train={"epochs": 40, "batch_size": 32},
        stopping={"patience": 2},
    )
    assert len(made.epochs) < 40
    assert [report.is_best for report in made.epochs[-3:]] == [True, False, False]


def test_without_validation_nothing_is_reported_of_it_and_the_last_epoch_is_kept(uri: str) -> None:
    split = {"num_test_subjects": 1, "num_validation_subjects": 0}
    kept: list[State] = []
    recipe, data = load(uri, split=split, stopping={"keep": "last"})
    made = train_here(recipe, data, lambda _, state: kept.append(state))
    assert len(data.validation) == 0
    assert {report.validation_loss for report in made.epochs} == {None}
    assert {report.validation_score for report in made.epochs} == {None}
    assert not any(report.is_best for report in made.epochs)
    assert same(made.weights, kept[-1])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_loss_that_is_not_finite_stops_and_leaves_finite_weights(uri: str, keep: str) -> None:
    kept: list[State] = []
    recipe, data = load(
        uri,
        optimiser={"learning_rate": 1e30, "max_grad_norm": 1e30},
        schedule={"name": "constant"},
        stopping={"keep": keep},
        train={"epochs": 3, "batch_size": 16},
    )
    message = r"the loss is (nan|inf) in epoch \d+, step \d+: lower optimiser\.learning_rate"
    with pytest.raises(RecipeError, match=message):
        fit(recipe, data, worker=Worker(), on_epoch=lambda _, state: kept.append(state))
    assert all(value.isfinite().all() for state in kept for value in state.values())


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_the_last_step_of_an_epoch_spoils_are_never_kept(uri: str, keep: str) -> None:
    kept: list[State] = []
    recipe, data = load(
        uri,
        optimiser={"learning_rate": 1e30, "max_grad_norm": 1e30},
        schedule={"name": "constant"},
        stopping={"keep": keep},
        train={"epochs": 1, "batch_size": 10_000},
    )
    with pytest.raises(RecipeError, match=r"the loss is (nan|inf) .*epoch 0"):
        fit(recipe, data, worker=Worker(), on_epoch=lambda _, state: kept.append(state))
    assert kept == []


def test_a_loss_that_turns_nan_in_a_later_epoch_keeps_the_one_before(uri: str) -> None:
    recipe, data = load(uri, train={"epochs": 4, "batch_size": 16}, stopping={"keep": "last"})
    kept: list[State] = []

    def spoil(report: EpochReport, state: State) -> None:
        kept.append(state)
        if report.epoch == 1:
            assert data.train.windows_BTC is not None
            data.train.windows_BTC[:] = np.inf

    with (
        np.errstate(invalid="ignore"),
        pytest.raises(RecipeError, match=r"in epoch 2, step 0.*checkpoint of epoch 1 is kept"),
    ):
        fit(recipe, data, worker=Worker(), on_epoch=spoil)
    assert len(kept) == 2
    assert all(value.isfinite().all() for value in kept[-1].values())


def test_a_closed_form_network_is_solved_and_has_one_epoch(uri: str) -> None:
    made = run(uri, model=CLOSED_FORM, train={"epochs": 1, "batch_size": 32})
    (report,) = made.epochs
    assert report.is_best
    predicted_BK = made.predicted(made.data.test)
    assert (predicted_BK.argmax(axis=1) == made.data.test.targets_B).mean() > 0.9
    again = run(uri, model=CLOSED_FORM, train={"epochs": 1, "batch_size": 32})
    assert same(made.weights, again.weights)


def test_a_closed_form_network_predicts_values(uri: str) -> None:
    made = run(uri, **CHANNEL, model=CLOSED_FORM, train={"epochs": 1, "batch_size": 32})
    test, train = made.data.test, made.data.train
    error = np.abs(made.predicted(test)[:, 0] - test.targets_B).mean()
    assert error < 0.7 * np.abs(train.targets_B.mean() - test.targets_B).mean()


def test_what_a_closed_form_network_cannot_do_is_refused(uri: str) -> None:
    recipe, data = load(uri, model=CLOSED_FORM)
    with pytest.raises(RecipeError, match=r"set resources\.num_workers to 1 \(now 2\)"):
        fit(recipe, data, worker=Worker(world_size=2), on_epoch=lambda *_: None)
    with pytest.raises(RecipeError, match="gives no quantiles"):
        run(uri, **FORECAST, model=CLOSED_FORM)


def test_each_of_two_workers_trains_on_its_own_half(uri: str) -> None:
    recipe, data = load(uri, train={"epochs": 1, "batch_size": 32})
    # Nothing joins them here, so that what each has learned alone stays different.
    first, second = (
        fit(recipe, data, worker=Worker(rank=rank, world_size=2), on_epoch=lambda *_: None)
        for rank in (0, 1)
    )
    assert not same(first, second)
    assert all(value.isfinite().all() for value in (*first.values(), *second.values()))


def test_a_run_over_its_memory_names_the_settings(uri: str) -> None:
    with pytest.raises(RecipeError, match=r"resources\.memory_gib_per_worker.*train\.batch_size"):
        run(uri, resources={"memory_gib_per_worker": 0.001})
    run(uri, resources={"memory_gib_per_worker": 900.0}, train={"epochs": 1})


# Loads all that torch loads late, then leaves less than one batch needs.
_STARVED = """
import resource, sys
import torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[2:]
from motoric.core.errors import RecipeError
from motoric.training.loop import fit
from motoric.training.run import Worker
from trainings import load, train_here
train_here(*load(sys.argv[1], train={"epochs": 1}))
recipe, data = load(
    sys.argv[1],
    window={"stream": "imu", "length_s": 2.0, "hop_s": 0.1},
    model={"name": "recurrent", "hidden_size": 8, "stem_channels": 512, "dropout": 0.0},
    train={"epochs": 1, "batch_size": 10_000},
)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, resource.RLIM_INFINITY))
try:
    fit(recipe, data, worker=Worker(), on_epoch=lambda *_: None)
except RecipeError as error:
    print(error.message)
"""


def test_a_batch_that_the_memory_cannot_hold_names_the_batch_size(uri: str) -> None:
    roots = [
        str(Path(__file__).parents[1] / "support"),
        str(Path(__file__).parents[2] / "platform"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _STARVED, uri, *roots],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert "does not fit the worker's memory: lower train.batch_size" in done.stdout, done.stderr
