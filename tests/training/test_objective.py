from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from motoric.core.errors import RecipeError
from motoric.training.batches import Batches
from motoric.training.examples import SplitExamples
from motoric.training.loop import make_network
from motoric.training.objective import Objective, pinball_loss
from motoric.training.recipe import Recipe
from motoric.training.run import Run, Worker
from recordings import SineSource, write_dataset
from trainings import load

LOGITS_BK = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5], [-1.0, 0.0, 3.0], [1.0, 1.0, 0.0]])
TARGETS_B = torch.tensor([0, 1, 2, 0])


class OneLabelRare(SineSource):
    """Recordings of the first label are a fifth as long."""

    def recording(self, index: int) -> Any:
        whole = self.duration_s
        if index % len(self.labels) == 0:
            self.duration_s = whole / 5
        try:
            return super().recording(index)
        finally:
            self.duration_s = whole


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, OneLabelRare(num_subjects=4, duration_s=20.0))
    return folder


def objective_of(uri: str, **train: Any) -> tuple[Objective, Recipe, SplitExamples]:
    recipe, data = load(uri, train=train)
    return Objective(recipe, data), recipe, data


def test_without_weights_the_loss_is_the_cross_entropy(uri: str) -> None:
    objective, _, _ = objective_of(uri)
    found = objective.loss(LOGITS_BK, TARGETS_B)
    assert found.item() == pytest.approx(cross_entropy(LOGITS_BK, TARGETS_B).item())


def test_balanced_weights_are_the_inverse_of_the_share_in_training(uri: str) -> None:
    objective, _, data = objective_of(uri, class_weights="balanced")
    counts_K = np.bincount(data.train.targets_B, minlength=3)
    assert counts_K[0] < counts_K[1] / 4
    weights_K = torch.from_numpy((len(data.train) / (3 * counts_K)).astype(np.float32))
    expected = cross_entropy(LOGITS_BK, TARGETS_B, weight=weights_K)
    assert objective.loss(LOGITS_BK, TARGETS_B).item() == pytest.approx(expected.item())
    # All classes weigh alike in the whole training part.
    weighed_K = counts_K * weights_K.numpy()
    np.testing.assert_allclose(weighed_K, weighed_K[0], rtol=1e-5)


def test_weights_by_name_leave_the_others_at_one(uri: str) -> None:
    objective, _, _ = objective_of(uri, class_weights={"squat": 4.0})
    expected = cross_entropy(LOGITS_BK, TARGETS_B, weight=torch.tensor([1.0, 4.0, 1.0]))
    assert objective.loss(LOGITS_BK, TARGETS_B).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"squad": 2.0}, "names squad: there are jump, squat, walk"),
        ({"squat": 0.0}, "not above 0"),
        ({"squat": -1.0}, "not above 0"),
        ({"squat": float("nan")}, "not above 0"),
        ({"squat": float("inf")}, "not above 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    uri: str, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        objective_of(uri, class_weights=weights)


def test_label_smoothing_reaches_the_loss(uri: str) -> None:
    objective, _, _ = objective_of(uri, label_smoothing=0.2)
    expected = cross_entropy(LOGITS_BK, TARGETS_B, label_smoothing=0.2)
    assert objective.loss(LOGITS_BK, TARGETS_B).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_each_auxiliary_output_counts_with_its_weight(uri: str, weight: float) -> None:
    objective, _, _ = objective_of(uri, auxiliary_weight=weight)
    auxiliary = (-LOGITS_BK, 2 * LOGITS_BK)
    expected = cross_entropy(LOGITS_BK, TARGETS_B)
    expected = expected + weight * sum(cross_entropy(item, TARGETS_B) for item in auxiliary)
    found = objective.loss((LOGITS_BK, *auxiliary), TARGETS_B)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_score_of_classes_is_their_accuracy(uri: str) -> None:
    objective, _, _ = objective_of(uri)
    assert objective.score(LOGITS_BK, torch.tensor([0, 1, 0, 0])) == pytest.approx(0.75)


def test_the_score_of_a_forecast_is_the_error_of_its_median(uri: str) -> None:
    recipe, data = load(
        uri,
        task="forecast",
        target={"channel": "acc_x"},
        horizon_s=0.5,
        quantiles=[0.05, 0.25, 0.5, 0.9],
    )
    objective = Objective(recipe, data)
    predicted_BQ = torch.tensor([[0.0, 1.0, 2.0, 9.0], [0.0, 1.0, 4.0, 9.0]])
    assert objective.score(predicted_BQ, torch.tensor([1.0, 1.0])) == pytest.approx(2.0)
    assert objective.score_name == "MAE, m/s^2"
    assert objective.num_outputs == 4


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30),
    quantile=st.sampled_from([0.1, 0.5, 0.75]),
)
def test_no_constant_has_a_lower_pinball_loss_than_the_quantile(
    values: list[float], quantile: float
) -> None:
    targets_B = torch.tensor(values)
    best = float(np.quantile(values, quantile, method="inverted_cdf"))

    def loss(value: float) -> float:
        predicted_BQ = torch.full((len(values), 1), value)
        return pinball_loss(predicted_BQ, targets_B, [quantile]).item()

    assert all(loss(best) <= loss(best + step) + 1e-4 for step in (-10, -1, -0.1, 0.1, 1, 10))


def test_a_target_that_never_moves_has_a_finite_loss(tmp_path: Path) -> None:
    class Still(SineSource):
        def recording(self, index: int) -> Any:
            made = super().recording(index)
            made.metadata["height"] = "1.8"
            return made

    write_dataset(str(tmp_path), Still(num_subjects=3, duration_s=10.0))
    recipe, data = load(str(tmp_path), task="regress", target={"metadata": "height", "unit": "m"})
    objective = Objective(recipe, data)
    loss = objective.loss(torch.zeros(2, 1), torch.tensor([1.8, 1.8]))
    assert loss.isfinite()
    assert objective.head(torch.zeros(2, 1)).flatten().tolist() == pytest.approx([1.8, 1.8])


def test_class_weights_count_over_all_examples_and_not_by_chunk(tmp_path: Path) -> None:
    # Windows stand in the order of recordings, so that a chunk has hardly more than one class.
    source = SineSource(num_subjects=4, duration_s=20.0)
    write_dataset(str(tmp_path), source)
    recipe, data = load(
        str(tmp_path), train={"epochs": 1, "batch_size": 4, "class_weights": {"jump": 50.0}}
    )
    run = Run(recipe=recipe, data=data, worker=Worker(), network=make_network(recipe, data))
    outputs_BK = []
    found = run.mean_loss(data.train, lambda outputs, _: outputs_BK.append(outputs))
    whole = run.objective.loss(torch.cat(outputs_BK), torch.from_numpy(data.train.targets_B))
    assert found == pytest.approx(whole.item())


def test_what_augmentation_does_to_a_window_does_not_move_the_change_to_forecast(
    tmp_path: Path,
) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=3, duration_s=20.0))
    recipe, data = load(
        str(tmp_path),
        task="forecast",
        target={"channel": "acc_x"},
        horizon_s=0.5,
        augmentation={"scale_std": 0.5, "jitter_std": 0.5},
    )
    batches, chosen = Batches(recipe, data), np.arange(8)
    augmented = batches.training(data.train, chosen, torch.Generator().manual_seed(0))
    assert data.train.persistence_B is not None
    change_B = data.train.targets_B[chosen] - data.train.persistence_B[chosen]
    np.testing.assert_allclose(augmented.targets_B.numpy(), change_B, atol=1e-6)
