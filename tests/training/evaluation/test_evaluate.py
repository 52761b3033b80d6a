from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from motoric.core.errors import ArtefactError, DatasetError
from motoric.training.evaluation.bootstrap import draw_weights
from motoric.training.evaluation.classification_scores import (
    ClassificationEvaluation,
    evaluate_classes,
    reliability_bins,
)
from motoric.training.evaluation.comparison import compare
from motoric.training.evaluation.evaluate import evaluate, parse_evaluation
from motoric.training.evaluation.forecast_scores import evaluate_forecast
from motoric.training.evaluation.predictions import Predictions, concatenate
from motoric.training.evaluation.value_scores import evaluate_values

CLASSES = ("x", "y", "z")


def classified(
    probabilities: object,
    targets: list[int],
    subjects: object,
    recordings: object,
    seed: int = 0,
) -> Predictions:
    num_windows = len(targets)
    return Predictions(
        task="classify",
        subjects=tuple(subjects),  # type: ignore[arg-type]
        recording_ids=tuple(recordings),  # type: ignore[arg-type]
        start_s_B=np.arange(num_windows, dtype=float),
        end_s_B=np.arange(num_windows) + 2.0,
        fold_B=np.zeros(num_windows, np.int64),
        seed_B=np.full(num_windows, seed),
        targets_B=np.array(targets),
        outputs_BK=np.array(probabilities, np.float32),
        classes=CLASSES,
    )


def valued(
    values: object,
    targets: list[float],
    subjects: object,
    *,
    task: str = "regress",
    persistence: object = None,
) -> Predictions:
    num_windows = len(targets)
    outputs = np.array(values, np.float32).reshape(num_windows, -1)
    names = tuple(subjects)  # type: ignore[arg-type]
    return Predictions(
        task=task,  # type: ignore[arg-type]
        subjects=names,
        recording_ids=tuple(f"r{name}" for name in names),
        start_s_B=np.arange(num_windows, dtype=float),
        end_s_B=np.arange(num_windows) + 2.0,
        fold_B=np.zeros(num_windows, np.int64),
        seed_B=np.zeros(num_windows, np.int64),
        targets_B=np.array(targets, np.float32),
        outputs_BK=outputs,
        persistence_B=None if persistence is None else np.array(persistence, np.float32),
        quantiles=(0.1, 0.5, 0.9) if task == "forecast" else (),
        unit="bpm",
        horizon_s=10.0 if task == "forecast" else 0.0,
    )


def random_classified(
    num_subjects: int, seed: int = 0, num_windows: int = 120, strength: float = 1.0
) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = np.arange(num_windows) // 4 % 3
    scores = rng.random((num_windows, 3)) + strength * np.eye(3)[targets] * rng.random(
        (num_windows, 1)
    )
    people = np.arange(num_windows) // 12 % num_subjects
    return classified(
        scores / scores.sum(axis=1, keepdims=True),
        targets.tolist(),
        [f"s{person}" for person in people],
        [f"r{number // 4}" for number in range(num_windows)],
        seed,
    )


BY_HAND = classified(
    [
        [0.8, 0.1, 0.1],
        [0.4, 0.5, 0.1],
        [0.1, 0.8, 0.1],
        [0.9, 0.1, 0],
        [0.2, 0.7, 0.1],
        [0.1, 0.1, 0.8],
    ],
    [0, 0, 1, 1, 1, 0],
    ["a", "a", "a", "b", "b", "b"],
    ["r1", "r1", "r2", "r3", "r3", "r4"],
)


def test_figures_by_hand() -> None:
    found = evaluate_classes(BY_HAND)
    assert found.accuracy == pytest.approx(3 / 6)
    assert [score.accuracy for score in found.subjects] == pytest.approx([2 / 3, 1 / 3])
    # r1: mean (.6, .3, .1) is right; r2 is right; r3: mean (.55, .4) is wrong; r4 is wrong.
    assert [score.recording_accuracy for score in found.subjects] == [1.0, 0.0]
    assert found.recording_accuracy == 0.5
    assert (found.subject_accuracy.min, found.subject_accuracy.max) == pytest.approx((1 / 3, 2 / 3))
    assert found.subject_accuracy.std == pytest.approx(1 / 6)
    assert found.confusion == ((1, 1, 1), (1, 2, 0), (0, 0, 0))
    x, y, z = found.by_class
    assert (x.precision, x.recall, x.support) == pytest.approx((1 / 2, 1 / 3, 3))
    assert (y.precision, y.recall, y.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (z.support, z.recall, z.f1) == (0, 0, 0)
    assert found.balanced_accuracy == pytest.approx(1 / 2)
    assert found.macro_f1 == pytest.approx((0.4 + 2 / 3) / 2)
    wrong = 0.06 + 0.62 + 0.06 + 1.62 + 0.14 + 1.46
    assert found.brier == pytest.approx(wrong / 6)
    # Bins (.4 .5], (.66 .73], (.73 .8], (.86 .93]: .5 wrong; .7 right; three of .8, two right.
    gaps = 0.5 + 0.3 + 3 * abs(2 / 3 - 0.8) + 0.9
    assert found.calibration_error == pytest.approx(gaps / 6, abs=1e-6)
    assert found.intervals is None
    assert "2 is below 3" in found.notes[0]
    assert "no held-out window is of z" in found.notes[1]


def test_a_recording_of_several_labels_counts_once_for_each() -> None:
    probabilities = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], [0.6, 0.4, 0]]
    found = evaluate_classes(classified(probabilities, [0, 0, 1, 2], "aaaa", ["r"] * 4))
    assert found.num_recordings == 1
    assert found.recording_accuracy == pytest.approx(2 / 3)


def test_one_person_and_one_class_are_enough() -> None:
    found = evaluate_classes(classified([[0.2, 0.7, 0.1]], [1], ["a"], ["r"]))
    assert (found.accuracy, found.balanced_accuracy, found.macro_f1) == (1, 1, 1)
    assert found.subject_accuracy.std == 0


def test_unknown_people_are_not_counted() -> None:
    found = evaluate_classes(replace(BY_HAND, subjects=("unknown:r1",) * 3 + ("b",) * 3))
    assert found.num_subjects == 1


def test_figures_of_several_seeds_are_their_mean() -> None:
    parts = [random_classified(5, seed) for seed in range(3)]
    singles = [evaluate_classes(part) for part in parts]
    found = evaluate_classes(concatenate(parts))
    assert found.num_windows == singles[0].num_windows
    for name in ("accuracy", "macro_f1", "recording_accuracy", "log_loss", "calibration_error"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(s, name) for s in singles]))
    assert [score.seed for score in found.seeds] == [0, 1, 2]
    assert found.subjects[0].num_windows == singles[0].subjects[0].num_windows


@settings(max_examples=12, deadline=None)
@given(st.integers(3, 9), st.integers(0, 3))
def test_intervals_hold_the_figures(num_subjects: int, seed: int) -> None:
    found = evaluate_classes(random_classified(num_subjects, seed))
    assert found.intervals is not None
    assert found.intervals.num_units == num_subjects
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "recording_accuracy"):
        interval = getattr(found.intervals, name)
        assert 0 <= interval.low <= getattr(found, name) <= interval.high <= 1


def test_intervals_are_those_of_drawing_people_one_by_one() -> None:
    predictions = random_classified(4, strength=0.5)
    predicted_B = predictions.outputs_BK.argmax(axis=1)
    rows_of = [
        np.flatnonzero(np.array(predictions.subjects) == f"s{person}") for person in range(4)
    ]
    figures = []
    for weights_S in draw_weights(4):
        rows = np.concatenate([rows_of[person] for person in np.repeat(np.arange(4), weights_S)])
        targets = predictions.targets_B[rows]
        right = [(predicted_B[rows] == targets)[targets == label].mean() for label in set(targets)]
        figures.append((np.mean(right), (predicted_B[rows] == targets).mean()))
    found = evaluate_classes(predictions).intervals
    assert found is not None
    assert found.balanced_accuracy is not None
    assert found.accuracy is not None
    for interval, values in zip(
        (found.balanced_accuracy, found.accuracy), np.array(figures).T, strict=True
    ):
        assert (interval.low, interval.high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975]))
        )


def test_classes_that_a_draw_lacks_do_not_count_in_it() -> None:
    # Each person has a class of their own, and all are right: every draw is perfect.
    found = evaluate_classes(classified(np.eye(3), [0, 1, 2], "abc", "abc"))
    assert found.intervals is not None
    assert found.intervals.macro_f1 is not None
    assert (found.intervals.macro_f1.low, found.intervals.macro_f1.high) == (1, 1)


def test_figures_agree_with_scikit_learn() -> None:
    predictions = random_classified(5)
    predicted_B = predictions.outputs_BK.argmax(axis=1)
    found = evaluate_classes(predictions)
    assert found.macro_f1 == pytest.approx(
        f1_score(predictions.targets_B, predicted_B, average="macro")
    )


def test_bins_hold_each_window_once() -> None:
    probabilities_BK = np.array([[1.0, 0], [0.5, 0.5], [2 / 3, 1 / 3]], np.float32)
    bins = reliability_bins(probabilities_BK, np.array([0, 1, 0]))
    assert sum(item.num_windows for item in bins) == 3
    assert (bins[-1].low, bins[-1].high, bins[-1].accuracy) == (14 / 15, 1.0, 1.0)


def test_values_by_hand() -> None:
    found = evaluate_values(valued([1, 2, 5, 4], [0, 2, 3, 5], ["a", "a", "b", "c"]))
    assert (found.mae, found.bias) == pytest.approx((1.0, 0.5))
    assert found.rmse == pytest.approx(np.sqrt(6 / 4))
    assert found.r2 == pytest.approx(1 - 6 / 13)
    assert [score.mae for score in found.subjects] == pytest.approx([0.5, 2, 1])
    assert found.subjects[2].bias == pytest.approx(-1)
    assert found.intervals is not None
    assert found.intervals.mae is not None
    assert found.intervals.mae.low == pytest.approx(0.5)
    assert found.intervals.mae.high == pytest.approx(2)


def test_equal_targets_have_no_r2() -> None:
    found = evaluate_values(valued([1, 2], [3, 3], "ab"))
    assert found.r2 is None
    assert parse_evaluation(found.model_dump_json().encode(), "m") == found


FORECAST = valued(
    [[9, 10, 12], [10, 12, 13], [10, 11, 15], [8, 10, 11]],
    [11, 12, 16, 10],
    ["a", "b", "c", "c"],
    task="forecast",
    persistence=[10, 10, 14, 12],
)


def test_a_forecast_by_hand() -> None:
    found = evaluate_forecast(FORECAST)
    assert (found.mae, found.persistence_mae) == pytest.approx((6 / 4, 7 / 4))
    assert found.skill == pytest.approx(1 - 6 / 7)
    assert [score.skill for score in found.recordings] == pytest.approx([0, 1, 1 - 5 / 4])
    assert found.num_recordings_better == 1
    (outer,) = found.coverage
    assert (outer.nominal, outer.observed) == pytest.approx((0.8, 3 / 4))
    assert outer.mean_width == pytest.approx((3 + 3 + 5 + 3) / 4)
    assert found.quantiles[1].pinball_loss == pytest.approx(found.mae / 2)
    assert found.quantiles[1].persistence_pinball_loss == pytest.approx(7 / 8)
    assert found.quantiles[0].pinball_loss == pytest.approx(0.1 * (2 + 2 + 6 + 2) / 4)
    assert [score.share_below for score in found.quantiles] == pytest.approx([0, 0.5, 0.75])
    assert found.intervals is not None
    assert found.intervals.skill is not None
    assert found.intervals.skill.low <= found.skill <= found.intervals.skill.high


def test_a_forecast_of_one_person_resamples_recordings_and_says_so() -> None:
    found = evaluate_forecast(replace(FORECAST, subjects=("a",) * 4))
    assert found.intervals is not None
    assert (found.intervals.resampled, found.num_subjects) == ("recording", 1)
    assert "say nothing about other people" in found.notes[0]


def test_persistence_without_error_or_not_kept_has_no_skill() -> None:
    perfect = evaluate_forecast(replace(FORECAST, persistence_B=FORECAST.targets_B))
    assert (perfect.persistence_mae, perfect.skill) == (0, None)
    missing = evaluate_forecast(replace(FORECAST, persistence_B=None))
    assert (missing.persistence_mae, missing.skill) == (None, None)
    assert "not kept" in missing.notes[-1]


@pytest.mark.parametrize(
    "predictions", [BY_HAND, valued([1, 2, 3], [1, 2, 4], "abc"), FORECAST], ids=lambda p: p.task
)
def test_metrics_json_gives_back_the_evaluation(predictions: Predictions) -> None:
    found = evaluate(predictions)
    assert found.task == predictions.task
    assert parse_evaluation(found.model_dump_json().encode(), "metrics.json") == found


def test_metrics_of_another_version_are_a_clear_error() -> None:
    with pytest.raises(ArtefactError, match=r"uri/metrics\.json: .*evaluate the model again"):
        parse_evaluation(b'{"task": "classify", "accuracy": 1}', "uri/metrics.json")


def test_a_model_against_itself_differs_by_nothing() -> None:
    predictions = random_classified(5)
    found = compare(predictions, predictions)
    assert (found.difference, found.share_above_0, found.winner) == (0, 0, None)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0, 0)


def test_a_comparison_is_antisymmetric_and_pairs_windows_in_any_order() -> None:
    weak, strong = random_classified(6, 1, strength=0.2), random_classified(6, 2, strength=3.0)
    order = np.random.default_rng(0).permutation(len(strong))
    shuffled = replace(
        strong,
        **{
            name: getattr(strong, name)[order]
            for name in ("start_s_B", "end_s_B", "fold_B", "seed_B", "targets_B", "outputs_BK")
        },
        subjects=tuple(strong.subjects[row] for row in order),
        recording_ids=tuple(strong.recording_ids[row] for row in order),
    )
    there = compare(weak, shuffled, name_a="weak", name_b="strong")
    back = compare(strong, weak, name_a="strong", name_b="weak")
    assert there.difference == pytest.approx(-back.difference)
    assert there.interval is not None
    assert back.interval is not None
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.winner == back.winner == "strong"
    assert there.difference == pytest.approx(
        evaluate_classes(weak).accuracy - evaluate_classes(strong).accuracy
    )
    assert there.mcnemar is not None
    right_by_one = there.mcnemar.only_a - there.mcnemar.only_b
    assert right_by_one / there.num_shared == pytest.approx(there.difference)


def test_only_shared_windows_count_and_their_number_is_said() -> None:
    whole = random_classified(6)
    part = replace(whole, recording_ids=("other",) * 20 + whole.recording_ids[20:])
    found = compare(whole, part)
    assert (found.num_shared, found.num_only_a, found.num_only_b) == (100, 20, 20)
    with pytest.raises(DatasetError, match=r"a \(120 windows\) and b \(120\) share none"):
        compare(whole, replace(whole, recording_ids=("other",) * 120))


def test_seeds_are_averaged_before_comparing() -> None:
    seeds = [random_classified(5, seed) for seed in (0, 1)]
    found = compare(concatenate(seeds), seeds[0])
    assert found.mcnemar is None
    assert found.score_a == pytest.approx(np.mean([evaluate_classes(s).accuracy for s in seeds]))
    assert found.num_shared == 120


def test_classes_are_compared_by_name() -> None:
    predictions = random_classified(5)
    renumbered = replace(
        predictions,
        classes=("z", "y", "x"),
        targets_B=2 - predictions.targets_B,
        outputs_BK=predictions.outputs_BK[:, ::-1],
    )
    assert compare(predictions, renumbered).difference == 0
    with pytest.raises(DatasetError, match="have other targets in 80 of the 120 windows"):
        compare(predictions, replace(predictions, classes=("z", "y", "x")))


def test_errors_are_compared_the_other_way_round() -> None:
    good = valued([1, 2, 3], [1, 2, 4], "abc")
    bad = replace(good, outputs_BK=good.outputs_BK + 3)
    found = compare(bad, good, name_a="bad", name_b="good")
    assert (found.score, found.winner) == ("MAE", "good")
    assert found.difference == pytest.approx((8 - 1) / 3)
    forecast = compare(FORECAST, FORECAST)
    assert forecast.resampled == "subject"


def test_runs_of_different_kinds_are_not_compared() -> None:
    with pytest.raises(DatasetError, match="task is 'classify' of a and 'regress' of b"):
        compare(BY_HAND, valued([1], [1], "a"))
    with pytest.raises(DatasetError, match=r"horizon_s is 10\.0 of a and 20\.0 of b"):
        compare(FORECAST, replace(FORECAST, horizon_s=20.0))
    moved = replace(FORECAST, targets_B=FORECAST.targets_B + 1)
    with pytest.raises(DatasetError, match="have other targets in 4 of the 4"):
        compare(FORECAST, moved)


def test_evaluate_picks_the_kind_by_the_task() -> None:
    assert isinstance(evaluate(BY_HAND), ClassificationEvaluation)
