from __future__ import annotations

import io
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from PIL import Image

from motoric.training.evaluation.comparison import compare
from motoric.training.evaluation.evaluate import evaluate
from motoric.training.evaluation.forecast_scores import evaluate_forecast
from motoric.training.evaluation.leaks import Leak
from motoric.training.evaluation.plots import confusion_plot, curves_plot
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.report import render_report
from motoric.training.evaluation.value_plots import horizons_plot, typical_recording
from motoric.training.progress import EpochReport

EPOCHS = [
    EpochReport(
        epoch=number,
        train_loss=1 / (number + 1),
        validation_loss=1.1 / (number + 1),
        validation_score=1 - 0.5 / (number + 1),
        score_name="accuracy",
        learning_rate=0.01,
        windows_per_s=100.0,
        is_best=True,
    )
    for number in range(6)
]


def predicted(
    task: str,
    *,
    num_classes: int = 5,
    num_subjects: int = 6,
    horizon_s: float = 10.0,
    seed: int = 0,
) -> Predictions:
    rng = np.random.default_rng(seed)
    num_windows = 40 * num_subjects
    time_s = np.tile(np.arange(40.0), num_subjects)
    targets_B = (120 + 20 * np.sin(time_s / 6) + rng.normal(0, 2, num_windows)).astype(np.float32)
    errors_B = rng.normal(0, 5, num_windows).astype(np.float32)
    outputs_BK = (targets_B + errors_B)[:, None]
    if task == "classify":
        targets_B = rng.integers(0, num_classes, num_windows)
        scores = np.exp(
            rng.normal(0, 1, (num_windows, num_classes)) + 3 * np.eye(num_classes)[targets_B]
        )
        outputs_BK = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    if task == "forecast":
        outputs_BK = outputs_BK + np.array([-8, -3, 0, 3, 8], np.float32)
    return Predictions(
        task=task,  # type: ignore[arg-type]
        subjects=tuple(f"$subject_{number // 40}$<b>" for number in range(num_windows)),
        recording_ids=tuple(f"recording_{number // 40}" for number in range(num_windows)),
        start_s_B=time_s,
        end_s_B=time_s + 4,
        fold_B=np.zeros(num_windows, np.int64),
        seed_B=np.full(num_windows, seed),
        targets_B=targets_B,
        outputs_BK=outputs_BK,
        persistence_B=targets_B + rng.normal(0, 0.8 * horizon_s, num_windows).astype(np.float32)
        if task == "forecast"
        else None,
        classes=tuple(f"$exercise_{number}" for number in range(num_classes))
        if task == "classify"
        else (),
        quantiles=(0.05, 0.25, 0.5, 0.75, 0.95) if task == "forecast" else (),
        unit="" if task == "classify" else "bpm",
        horizon_s=horizon_s if task == "forecast" else 0.0,
    )


def size_of(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize(
    ("task", "plots", "said"),
    [
        ("classify", {"confusion.png", "reliability.png"}, ["balanced accuracy", "<h2>By class"]),
        ("regress", {"scatter.png"}, ["RMSE", "R²", " bpm"]),
        ("forecast", {"recordings.png", "trace.png", "coverage.png"}, ["skill", "persistence"]),
    ],
)
def test_a_report_has_all_of_its_task_and_warns_first(
    task: str, plots: set[str], said: list[str]
) -> None:
    predictions, other = predicted(task), predicted(task)
    leak = Leak(kind="metadata", column="device", message="device <x> tells labels apart")
    html, found = render_report(
        title="<run>",
        facts={"dataset": "<d>"},
        evaluation=evaluate(predictions),
        predictions=predictions,
        epochs=EPOCHS if task == "classify" else EPOCHS[:1],
        recipe_yaml="a: <b>",
        tested_on="people never seen",
        leaks=[leak],
        comparisons=[compare(predictions, other, name_a="<cnn>", name_b="rnn")],
    )
    assert plots | {"curves.png"} <= set(found)
    assert all(min(size_of(png)) > 200 for png in found.values())
    assert html.count("<img") == len(found)
    assert all(text in html for text in said)
    for text in ("<run>", "<d>", "<x>", "<cnn>", "a: <b>"):
        assert escape(text) in html
        assert text not in html
    assert "cannot be told" in html
    assert "95 % intervals: 6 people" in html
    assert html.index("device &lt;x&gt; tells") < html.index("Recipe")


def test_a_run_without_epochs_has_no_curves() -> None:
    predictions = predicted("classify", num_subjects=2)
    html, plots = render_report(
        title="r",
        facts={},
        evaluation=evaluate(predictions),
        predictions=predictions,
        epochs=[],
        recipe_yaml="",
        tested_on="people",
    )
    assert "curves.png" not in plots
    assert "Training" not in html
    assert "no confidence intervals" in html


@pytest.mark.parametrize("num_classes", [2, 50])
def test_a_confusion_matrix_of_any_size_is_of_bounded_size(num_classes: int) -> None:
    evaluation = evaluate(predicted("classify", num_classes=num_classes))
    assert evaluation.task == "classify"
    width, height = size_of(confusion_plot(evaluation, "title"))
    assert 500 < height < 2400
    assert 500 < width < 2800


@pytest.mark.parametrize("score", [7.0, None])
def test_curves_draw_one_epoch_with_and_without_validation(score: float | None) -> None:
    alone = replace(EPOCHS[0], validation_loss=score, validation_score=score, is_best=False)
    width, height = size_of(curves_plot([replace(alone, score_name="MAE, bpm")]))
    assert (width > 2 * height) == (score is not None)


def test_the_example_is_neither_the_best_nor_the_worst_recording() -> None:
    evaluation = evaluate_forecast(predicted("forecast"))
    errors = {score.recording_id: score.mae for score in evaluation.recordings}
    example = errors[typical_recording(evaluation)]
    assert min(errors.values()) < example < max(errors.values())


def test_horizons_are_drawn_in_order() -> None:
    evaluations = [
        evaluate_forecast(predicted("forecast", horizon_s=horizon_s)) for horizon_s in (30, 5, 10)
    ]
    assert horizons_plot(evaluations) == horizons_plot(evaluations[::-1])
