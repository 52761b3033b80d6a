from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.training.augmentation import AugmentationConfig, perturb, rotate_raw
from motoric.training.evaluation import evaluate
from motoric.training.loop import State, Worker, fit, logits_of, make_network
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.report import render_report
from motoric.training.windows import SplitWindows, load_windows
from recordings import SineSource, recipe_content, write_dataset


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=30.0))
    return folder


def run(uri: str, **changes: object) -> tuple[Recipe, SplitWindows, State, list[EpochReport]]:
    recipe = parse_recipe(recipe_content(uri, **changes), "r")
    data = load_windows(recipe, open_dataset(uri))
    epochs: list[EpochReport] = []
    weights = fit(recipe, data, worker=Worker(), on_epoch=lambda epoch, _: epochs.append(epoch))
    return recipe, data, weights, epochs


def test_it_learns_and_the_figures_are_of_people_never_seen(uri: str) -> None:
    recipe, data, weights, epochs = run(uri, train={"epochs": 8, "batch_size": 16})
    assert not set(data.train.subjects) & set(data.test.subjects)
    assert epochs[-1].train_loss < epochs[0].train_loss
    network = make_network(recipe, data)
    network.load_state_dict(weights)
    logits_BK = logits_of(network, data.test, data, "cpu")
    evaluation = evaluate(torch.softmax(logits_BK, dim=1).numpy(), data.test)
    assert evaluation.accuracy > 0.8
    assert [score.subject for score in evaluation.subjects] == list(data.split.test)
    assert sum(map(sum, evaluation.confusion)) == len(data.test)
    html, plots = render_report(
        title="<x>",
        facts={"a": "b"},
        evaluation=evaluation,
        epochs=epochs,
        recipe_yaml="y",
        tested_on="people",
    )
    assert "&lt;x&gt;" in html
    assert all(png.startswith(b"\x89PNG") for png in plots.values())


def test_the_same_seed_gives_the_same_weights(uri: str) -> None:
    changes = {"augmentation": {"rotation_deg": 10, "scale_std": 0.1, "jitter_std": 0.1}}
    first, second = run(uri, **changes)[2], run(uri, **changes)[2]
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = run(uri, **changes, train={"epochs": 3, "batch_size": 32, "seed": 1})[2]
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_normaliser_is_fitted_on_training_people_only(uri: str) -> None:
    recipe = parse_recipe(recipe_content(uri), "r")
    data = load_windows(recipe, open_dataset(uri))
    normaliser = data.signature.preprocessing.normaliser
    assert normaliser is not None
    np.testing.assert_allclose(normaliser.mean, data.train.windows_BTC.mean((0, 1)), atol=1e-4)
    everyone = np.concatenate([data.train.windows_BTC, data.test.windows_BTC])
    assert not np.allclose(normaliser.std, everyone.std((0, 1)), atol=1e-4)


def test_keep_best_returns_the_epoch_with_the_lowest_validation_loss(uri: str) -> None:
    states: list[State] = []
    recipe = parse_recipe(
        recipe_content(uri, optimiser={"learning_rate": 0.3}, train={"epochs": 6}), "r"
    )
    data = load_windows(recipe, open_dataset(uri))
    losses: list[float] = []

    def on_epoch(report: EpochReport, kept: State) -> None:
        losses.append(report.validation_loss)
        states.append(kept)

    weights = fit(recipe, data, worker=Worker(), on_epoch=on_epoch)
    best = states[int(np.argmin(losses))]
    assert all(torch.equal(weights[name], best[name]) for name in weights)


def test_patience_stops_early(uri: str) -> None:
    changes = {"optimiser": {"learning_rate": 1e-12}, "schedule": {"name": "constant"}}
    epochs = run(uri, **changes, train={"epochs": 50}, stopping={"patience": 1})[3]
    assert len(epochs) < 50


def test_a_loss_that_is_not_finite_says_what_to_lower(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"the loss is .* in epoch \d+, step \d+: lower"):
        run(uri, optimiser={"learning_rate": 1e30, "max_grad_norm": 1e30})


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
    write_dataset(str(tmp_path), source)
    recipe = parse_recipe(recipe_content(str(tmp_path), **changes), "r")
    with pytest.raises(DatasetError, match=message):
        load_windows(recipe, open_dataset(str(tmp_path)))


def test_rotation_keeps_lengths_and_needs_triples(uri: str) -> None:
    generator = torch.Generator().manual_seed(0)
    windows_BTC = torch.randn(5, 7, 6, generator=generator)
    turned = rotate_raw(windows_BTC, 30.0, generator)
    before = windows_BTC.reshape(5, 7, 2, 3).norm(dim=-1)
    torch.testing.assert_close(turned.reshape(5, 7, 2, 3).norm(dim=-1), before)
    assert not torch.allclose(turned, windows_BTC)
    config = AugmentationConfig()
    assert torch.equal(perturb(windows_BTC, config, generator), windows_BTC)
