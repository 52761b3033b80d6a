from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from motoric.artefact.timeline import Segment, Timeline, TimelineBuilder, TimelineSettings, smooth
from motoric.core.errors import InputError

CLASSES = ("jump", "squat", "walk")
LENGTH_S, HOP_S = 4.0, 1.0


def one_hot(labels_B: np.ndarray, sure: float = 0.97, num_classes: int = 3) -> np.ndarray:
    probabilities_BK = np.full((len(labels_B), num_classes), (1 - sure) / (num_classes - 1))
    probabilities_BK[np.arange(len(labels_B)), labels_B] = sure
    return probabilities_BK


def shares(starts_B: np.ndarray, true: list[tuple[float, float, int]]) -> np.ndarray:
    # Of each window, the share of its time that each class has.
    shares_BK = np.zeros((len(starts_B), len(CLASSES)))
    for start_s, end_s, index in true:
        overlap_B = np.minimum(starts_B + LENGTH_S, end_s) - np.maximum(starts_B, start_s)
        shares_BK[:, index] += np.maximum(overlap_B, 0) / LENGTH_S
    return shares_BK


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, float]:
    hop_s = draw(st.sampled_from([0.1, 0.5, 1.0, 1.28]))
    length_s = draw(st.sampled_from([1.0, 2.56, 4.0]))
    # Hops of more than one are windows that are missing, or a gap of the recording.
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 9]), min_size=1, max_size=60))
    seed = draw(st.integers(0, 10_000))
    peak = draw(st.sampled_from([0.05, 0.3, 1.0]))
    rng = np.random.default_rng(seed)
    starts_B = draw(st.floats(-5, 1e5)) + hop_s * np.cumsum(steps)
    return starts_B, rng.dirichlet([peak] * len(CLASSES), len(steps)), length_s, hop_s


SETTINGS = st.builds(
    TimelineSettings,
    smoothing=st.sampled_from(["viterbi", "none"]),
    mean_segment_s=st.sampled_from([0.5, 5.0, 30.0]),
    min_segment_s=st.sampled_from([0.0, 2.0, 5.0]),
    min_probability=st.sampled_from([0.0, 0.6]),
    background=st.sampled_from([None, "walk"]),
)


@settings(max_examples=50, deadline=None)
@given(stream=streams(), options=SETTINGS)
def test_segments_cover_the_windows_time_once_and_differ_from_their_neighbours(
    stream: tuple[np.ndarray, np.ndarray, float, float], options: TimelineSettings
) -> None:
    starts_B, probabilities_BK, length_s, hop_s = stream
    found = smooth(
        starts_B,
        probabilities_BK,
        length_s=length_s,
        hop_s=hop_s,
        classes=CLASSES,
        settings=options,
    )
    runs: list[list[float]] = []
    for start_s in starts_B:
        if runs and start_s <= runs[-1][1] + 1e-6:
            runs[-1][1] = start_s + length_s
        else:
            runs.append([start_s, start_s + length_s])
    covered: list[list[float]] = []
    for segment in found:
        assert segment.end_s > segment.start_s
        assert segment.label in {*CLASSES, None} - {options.background or ""}
        assert 0 <= segment.probability <= 1
        if segment.label is not None:
            assert segment.probability >= options.min_probability
        if covered and segment.start_s == covered[-1][1]:
            covered[-1][1] = segment.end_s
        else:
            covered.append([segment.start_s, segment.end_s])
    assert covered == [pytest.approx(run, abs=1e-5) for run in runs]
    for one, other in itertools.pairwise(found):
        assert one.end_s < other.start_s or one.label != other.label


@settings(max_examples=50, deadline=None)
@given(
    stream=streams(),
    options=SETTINGS,
    cuts=st.lists(st.integers(0, 60), max_size=20),
    max_lag_s=st.sampled_from([None, 1.0, 5.0]),
)
def test_segments_do_not_depend_on_how_windows_are_pushed(
    stream: tuple[np.ndarray, np.ndarray, float, float],
    options: TimelineSettings,
    cuts: list[int],
    max_lag_s: float | None,
) -> None:
    starts_B, probabilities_BK, length_s, hop_s = stream

    def build(edges: list[int]) -> Timeline:
        builder = TimelineBuilder(
            length_s=length_s,
            hop_s=hop_s,
            classes=CLASSES,
            settings=options,
            max_lag_s=max_lag_s,
        )
        found: list[Segment] = []
        for first, last in itertools.pairwise(edges):
            if last > first:
                found += builder.push(starts_B[first:last], probabilities_BK[first:last])
        return (*found, *builder.finish())

    total = len(starts_B)
    whole = build([0, total])
    assert build(sorted([0, *(min(cut, total) for cut in cuts), total])) == whole
    assert build(list(range(total + 1))) == whole


@settings(max_examples=25, deadline=None)
@given(stream=streams(), options=SETTINGS)
def test_a_long_lag_gives_what_the_whole_recording_gives(
    stream: tuple[np.ndarray, np.ndarray, float, float], options: TimelineSettings
) -> None:
    starts_B, probabilities_BK, length_s, hop_s = stream
    shape = {"length_s": length_s, "hop_s": hop_s, "classes": CLASSES, "settings": options}
    builder = TimelineBuilder(**shape, max_lag_s=1000.0)
    found: list[Segment] = []
    for start_s, probabilities_K in zip(starts_B, probabilities_BK, strict=True):
        found += builder.push(start_s, probabilities_K)
    assert (*found, *builder.finish()) == smooth(starts_B, probabilities_BK, **shape)


@settings(max_examples=25, deadline=None)
@given(
    # Of two windows alone, the evidence is no more than what two changes of class cost.
    lengths=st.lists(st.floats(2.2 * LENGTH_S, 40), min_size=1, max_size=8),
    steps=st.lists(st.integers(1, 2), min_size=8, max_size=8),
    smoothing=st.sampled_from(["viterbi", "none"]),
)
def test_perfect_probabilities_give_the_true_segments_up_to_half_a_hop(
    lengths: list[float], steps: list[int], smoothing: str
) -> None:
    edges = [0.0, *itertools.accumulate(lengths)]
    kinds = [kind % 3 for kind in itertools.accumulate(steps)]
    true = list(zip(edges[:-1], edges[1:], kinds, strict=False))
    starts_B = np.arange(0, edges[-1] - LENGTH_S, HOP_S)
    probabilities_BK = shares(starts_B, true)
    found = smooth(
        starts_B,
        probabilities_BK,
        length_s=LENGTH_S,
        hop_s=HOP_S,
        classes=CLASSES,
        settings=TimelineSettings(smoothing=smoothing),
    )
    assert [segment.label for segment in found] == [CLASSES[kind] for _, _, kind in true]
    for segment, (start_s, _, _) in zip(found, true, strict=True):
        assert segment.start_s == pytest.approx(start_s, abs=HOP_S / 2 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(
    wrong=st.sets(st.integers(1, 6), max_size=6),
    label=st.integers(0, 2),
    other=st.integers(1, 2),
    sure=st.floats(0.6, 1.0),
)
def test_isolated_wrong_windows_vanish(
    wrong: set[int], label: int, other: int, sure: float
) -> None:
    labels_B = np.full(70, label)
    labels_B[[10 * place for place in wrong]] = (label + other) % 3
    found = smooth(
        np.arange(70) * HOP_S,
        one_hot(labels_B, sure),
        length_s=LENGTH_S,
        hop_s=HOP_S,
        classes=CLASSES,
    )
    assert [segment.label for segment in found] == [CLASSES[label]]


def test_no_segment_is_shorter_than_the_shortest_allowed() -> None:
    rng = np.random.default_rng(0)
    options = TimelineSettings(mean_segment_s=0.1, min_segment_s=5.0)
    shape = {"length_s": 1.0, "hop_s": 1.0, "classes": CLASSES}
    probabilities_BK = rng.dirichlet([0.2] * 3, 300)
    found = smooth(np.arange(300), probabilities_BK, settings=options, **shape)
    free = smooth(
        np.arange(300),
        probabilities_BK,
        settings=options.model_copy(update={"min_segment_s": 0.0}),
        **shape,
    )
    assert min(segment.end_s - segment.start_s for segment in found) >= 5.0
    assert len(found) > 10
    assert min(segment.end_s - segment.start_s for segment in free) == 1.0


def test_the_path_is_the_best_of_all_paths() -> None:
    rng = np.random.default_rng(1)
    probabilities_BK = rng.dirichlet([0.8] * 3, 8)
    options = TimelineSettings(mean_segment_s=3.0, min_segment_s=2.0)
    found = smooth(
        np.arange(8), probabilities_BK, length_s=1.0, hop_s=1.0, classes=CLASSES, settings=options
    )
    change = np.log((1 - np.exp(-1 / 3)) / 2)
    logs_BK = np.log(np.maximum(probabilities_BK, 1e-3))

    def score(path: tuple[int, ...]) -> float:
        runs = [len(list(items)) for _, items in itertools.groupby(path)]
        if min(runs) < 2:
            return -np.inf
        cost = change + 1 / 3  # against staying
        return float(sum(logs_BK[i, k] for i, k in enumerate(path)) + cost * (len(runs) - 1))

    best = max(itertools.product(range(3), repeat=8), key=score)
    labels = [CLASSES[kind] for kind, _ in itertools.groupby(best)]
    assert [segment.label for segment in found] == labels
    assert len(labels) > 1
    ends = list(itertools.accumulate(len(list(items)) for _, items in itertools.groupby(best)))
    assert [segment.end_s for segment in found] == ends


def test_a_gap_of_the_recording_stays_a_gap() -> None:
    starts_B = np.concatenate([np.arange(10), 60.3 + np.arange(10)])
    found = smooth(
        starts_B,
        one_hot(np.zeros(20, dtype=int)),
        length_s=LENGTH_S,
        hop_s=HOP_S,
        classes=CLASSES,
    )
    spans = [(segment.start_s, segment.end_s) for segment in found]
    assert spans == [pytest.approx((0, 13)), pytest.approx((60.3, 73.3))]
    assert {segment.label for segment in found} == {"jump"}


def test_uncertain_and_background_segments_have_no_label_and_are_joined() -> None:
    labels_B = np.repeat([0, 2, 1], 20)
    probabilities_BK = one_hot(labels_B, 0.9)
    probabilities_BK[40:] = one_hot(labels_B[40:], 0.5)
    found = smooth(
        np.arange(60),
        probabilities_BK,
        length_s=1.0,
        hop_s=1.0,
        classes=CLASSES,
        settings=TimelineSettings(background="walk", min_probability=0.6),
    )
    assert found == (
        Segment(start_s=0.0, end_s=20.0, label="jump", probability=pytest.approx(0.9)),
        Segment(start_s=20.0, end_s=60.0, label=None, probability=pytest.approx(0.7)),
    )


def test_a_live_timeline_holds_no_more_than_its_lag() -> None:
    # Nothing ever speaks for one class, so only the lag decides.
    builder = TimelineBuilder(length_s=LENGTH_S, hop_s=HOP_S, classes=CLASSES, max_lag_s=10.0)
    held = []
    for start_s in range(200):
        builder.push(start_s, np.full(3, 1 / 3))
        held.append(builder.num_held)
    assert max(held) == 10
    ends = [segment.end_s for segment in builder.finish()]
    assert ends[-1] == 203.0


def test_a_segment_comes_out_soon_after_its_end() -> None:
    probabilities_BK = one_hot(np.repeat([0, 1], 30))

    def delay_s(max_lag_s: float | None) -> float:
        builder = TimelineBuilder(
            length_s=LENGTH_S, hop_s=HOP_S, classes=CLASSES, max_lag_s=max_lag_s
        )
        for start_s, probabilities_K in enumerate(probabilities_BK):
            for segment in builder.push(start_s, probabilities_K):
                assert (segment.label, segment.end_s) == ("jump", pytest.approx(32, abs=1))
                return start_s + LENGTH_S - segment.end_s
        raise AssertionError("nothing came out")

    # Surely right takes until no path may still turn back; with a lag, the window and the lag.
    assert delay_s(None) <= 16
    assert delay_s(5.0) <= LENGTH_S + 5 + 2 * HOP_S < delay_s(None)


def test_one_class_is_one_segment() -> None:
    found = smooth([0, 1, 2], np.ones((3, 1)), length_s=LENGTH_S, hop_s=HOP_S, classes=["only"])
    assert found == (Segment(start_s=0.0, end_s=6.0, label="only", probability=1.0),)


def test_no_windows_are_no_segments() -> None:
    shape = {"length_s": LENGTH_S, "hop_s": HOP_S, "classes": CLASSES}
    assert smooth([], np.zeros((0, 3)), **shape) == ()
    assert TimelineBuilder(**shape).finish() == ()


@pytest.mark.parametrize(
    ("starts", "probabilities", "message"),
    [
        ([0, 0], [[1, 0, 0]] * 2, "order of time"),
        ([1, 0], [[1, 0, 0]] * 2, "order of time"),
        ([0, float("nan")], [[1, 0, 0]] * 2, "order of time"),
        ([0, 1], [[1, 0, 0], [float("nan"), 0, 1]], "window 1 .* 0 or more"),
        ([0, 1], [[1, 0, 0], [2.0, -1.0, 0]], "window 1 .* 0 or more"),
        ([0, 1], [[1, 0, 0], [3, 1, 2]], "1 in all"),
        ([0, 1], [[1, 0], [0, 1]], "3 probabilities"),
        ([0], [[1, 0, 0]] * 2, "one start a window"),
    ],
)
def test_wrong_windows_are_refused(
    starts: list[float], probabilities: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        smooth(starts, probabilities, length_s=LENGTH_S, hop_s=HOP_S, classes=CLASSES)


def test_windows_must_also_follow_those_of_the_push_before() -> None:
    builder = TimelineBuilder(length_s=LENGTH_S, hop_s=HOP_S, classes=CLASSES)
    builder.push(5.0, [1, 0, 0])
    with pytest.raises(InputError, match="order of time"):
        builder.push(4.0, [1, 0, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"length_s": 0.0},
        {"hop_s": float("nan")},
        {"max_lag_s": -1.0},
        {"classes": ("a", "a")},
        {"classes": ()},
        {"settings": TimelineSettings(background="swim")},
    ],
)
def test_wrong_shapes_are_refused(wrong: dict[str, object]) -> None:
    options: dict[str, object] = {"length_s": LENGTH_S, "hop_s": HOP_S, "classes": CLASSES}
    with pytest.raises(InputError):
        TimelineBuilder(**{**options, **wrong})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        TimelineSettings.model_validate({"min_segment": 2})


def test_a_replica_needs_only_numpy_for_it() -> None:
    heavy = "{'torch', 'sklearn', 'scipy', 'matplotlib', 'ray', 'pyarrow'}"
    code = (
        "import sys, motoric.artefact.timeline;"
        f"found = {heavy} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
