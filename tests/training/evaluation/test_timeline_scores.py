from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motoric.artefact.timeline import Segment
from motoric.core.errors import DatasetError, InputError
from motoric.data.recording import Annotation
from motoric.training.evaluation.timeline_plots import PlottedSeries, timeline_plot
from motoric.training.evaluation.timeline_scores import OVERLAPS_PERCENT, pool, score_timeline

Spans = list[tuple[float, float, str]]
# Neighbours differ in their labels.
SERIES = st.lists(
    st.tuples(st.floats(0.5, 60), st.sampled_from("ab")), min_size=1, max_size=12
).map(
    lambda items: [
        (end_s - length_s, end_s, f"{label}{index % 2}")
        for index, ((length_s, label), end_s) in enumerate(
            zip(items, itertools.accumulate(length for length, _ in items), strict=True)
        )
    ]
)


def found(spans: Spans, probability: float = 0.9) -> list[Segment]:
    return [
        Segment(start_s=start_s, end_s=end_s, label=label or None, probability=probability)
        for start_s, end_s, label in spans
    ]


def true(spans: Spans) -> list[Annotation]:
    return [
        Annotation(start_s=start_s, end_s=end_s, label=label) for start_s, end_s, label in spans
    ]


@settings(max_examples=30, deadline=None)
@given(spans=SERIES)
def test_the_truth_itself_scores_full_marks(spans: Spans) -> None:
    assert score_timeline(found(spans), true(spans)).figures() == {
        "accuracy": pytest.approx(1),
        **{f"f1_{percent}": 1.0 for percent in OVERLAPS_PERCENT},
        "edit_score": 1.0,
        "start_error_s": 0.0,
        "end_error_s": 0.0,
        "segments_per_true": 1.0,
        "missed_per_hour": 0.0,
        "false_per_hour": 0.0,
    }


@settings(max_examples=30, deadline=None)
@given(spans=SERIES)
def test_other_labels_score_nothing(spans: Spans) -> None:
    wrong = [(start_s, end_s, "z" + label) for start_s, end_s, label in spans]
    score = score_timeline(found(wrong), true(spans))
    assert (score.accuracy, score.edit_score) == (0, 0)
    assert [score.f1(percent) for percent in OVERLAPS_PERCENT] == [0, 0, 0]
    assert (score.start_error_s, score.end_error_s) == (None, None)


@settings(max_examples=30, deadline=None)
@given(one=SERIES, other=SERIES)
def test_all_figures_lie_in_their_range_and_f1_falls_with_the_overlap(
    one: Spans, other: Spans
) -> None:
    score = score_timeline(found(one), true(other))
    f1s = [score.f1(percent) for percent in OVERLAPS_PERCENT]
    assert 0 <= score.accuracy <= 1 + 1e-9
    assert 0 <= score.edit_score <= 1
    assert 1 >= f1s[0] >= f1s[1] >= f1s[2] >= 0


def test_figures_by_hand() -> None:
    # `a` is cut in two, of which the later is the smaller; `b` starts 2 s late and `c` is missing.
    score = score_timeline(
        found([(0, 6, "a"), (6, 7, "b"), (7, 12, "a"), (12, 20, "b"), (20, 30, "")]),
        true([(0, 10, "a"), (10, 20, "b"), (20, 30, "c")]),
    )
    assert score.accuracy == pytest.approx((9 + 8) / 30)
    # a: 6/10; a again: its best, 3 of 12, is taken; b: 0 and 8/10.
    assert score.num_matched == (2, 2, 2)
    assert [score.f1(percent) for percent in OVERLAPS_PERCENT] == pytest.approx([4 / 7] * 3)
    # a b a b against a b c: one is replaced and one deleted.
    assert (score.edit_distance, score.edit_score) == (2, pytest.approx(1 / 2))
    assert score.start_error_s == pytest.approx(1.0)  # 0 and 2
    assert score.end_error_s == pytest.approx(2.0)  # 4 and 0
    assert score.segments_per_true == pytest.approx(4 / 3)
    assert score.missed_per_hour == pytest.approx(1 * 120)
    assert score.false_per_hour == pytest.approx(2 * 120)


def test_over_segmentation_costs_f1_and_edits_but_no_accuracy() -> None:
    pieces = [(float(start), start + 1.0, "a") for start in range(10)]
    score = score_timeline(found(pieces), true([(0, 10, "a")]))
    assert score.accuracy == pytest.approx(1)
    assert score.num_matched == (1, 0, 0)
    assert score.edit_score == pytest.approx(0.1)
    assert score.segments_per_true == 10


def test_annotations_that_touch_and_agree_are_one() -> None:
    parts = true([(0, 10, "a"), (10, 20, "a"), (21, 30, "a")])
    score = score_timeline(found([(0, 20, "a"), (20, 30, "a")]), parts)
    assert (score.num_true, score.num_matched) == (2, (2, 2, 2))


def test_time_without_annotation_counts_neither_way() -> None:
    truth = true([(10, 20, "a"), (30, 40, "b")])
    score = score_timeline(found([(0, 9, "b"), (9, 21, "a"), (22, 28, "c"), (29, 50, "b")]), truth)
    assert (score.accuracy, score.num_found, score.f1(50)) == (1.0, 2, 1.0)
    assert score.annotated_s == 20


def test_nothing_found_is_all_missed() -> None:
    score = score_timeline([], true([(0, 1800, "a"), (1800, 3600, "b")]))
    assert (score.accuracy, score.f1(10), score.edit_score) == (0, 0, 0)
    assert (score.missed_per_hour, score.false_per_hour) == (2, 0)


@settings(max_examples=30, deadline=None)
@given(one=SERIES, other=SERIES)
def test_series_pool_to_their_counts(one: Spans, other: Spans) -> None:
    first = score_timeline(found(one), true(one))
    second = score_timeline(found(one), true(other))
    both = pool([first, second])
    total_s = first.annotated_s + second.annotated_s
    right_s = first.accuracy * first.annotated_s + second.accuracy * second.annotated_s
    assert both.accuracy == pytest.approx(right_s / total_s)
    assert both.num_true == first.num_true + second.num_true
    assert both.num_matched == tuple(np.add(first.num_matched, second.num_matched))
    assert len(both.start_errors_s) == both.num_matched[-1]
    assert pool([first]) == first


def test_wrong_truths_and_timelines_are_refused() -> None:
    for wrong, message in (
        ([], "there are none"),
        ([(0, 2, "a"), (1, 3, "b")], "overlap from 1 to 2 s"),
        ([(1, 1, "a")], "lasts no time"),
    ):
        with pytest.raises(DatasetError, match=message):
            score_timeline([], true(wrong))
    with pytest.raises(InputError, match="starts before 2 s"):
        score_timeline(found([(0, 2, "a"), (1, 3, "b")]), true([(0, 2, "a")]))
    with pytest.raises(InputError, match="no timelines"):
        pool([])


def test_a_picture_grows_with_its_series_and_takes_any_label() -> None:
    labels = ["$x^", "_hidden", "\u8dd1\u6b65", *(f"exercise {index}" for index in range(24))]
    spans = [(10.0 * index, 10.0 * index + 10, label) for index, label in enumerate(labels)]
    time_T = np.arange(0, 270, 0.02)
    item = PlottedSeries(
        true=true(spans),
        found=found([*spans[:5], (50, 60, "")]),
        trace=(time_T, np.sin(time_T)),
        trace_name="acc_x (m/s^2)",
    )
    sizes = []
    for count in (1, 2):
        png = timeline_plot({f"person {index}": item for index in range(count)})
        with Image.open(io.BytesIO(png)) as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1] < 2000


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no labelled segment"):
        timeline_plot({})
