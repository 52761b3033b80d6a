from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from motoric.artefact.preprocessing import NormaliserFit, check_windows, prepare, settling_s
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    GravitySplitStep,
    HampelStep,
    LowPassStep,
    Normaliser,
    Preprocessing,
    SensorInput,
    Signature,
    Step,
    check_steps,
    output_channels,
    parse_signature,
)
from motoric.core.errors import ArtefactError, InputError, RecipeError
from motoric.data.windows import Window, Windower

SENSORS = SensorInput(
    channels=(Channel(name="a", unit="g"), Channel(name="b", unit="g")),
    rate_hz=5.0,
    length_s=1.0,
    hop_s=1.0,
)


# A watch at 20 Hz: acceleration and heart rate, with 2 s of context.
WATCH = SensorInput(
    channels=(
        *(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz"),
        Channel(name="heart_rate", unit="bpm"),
    ),
    rate_hz=20.0,
    length_s=1.5,
    hop_s=0.5,
    context_s=2.0,
)
STEPS: tuple[Step, ...] = (
    HampelStep(window_s=0.35),
    LowPassStep(cutoff_hz=6.0, zero_phase=True),
    LowPassStep(cutoff_hz=8.0),
    GravitySplitStep(),
)
NORMALISER = Normaliser(mean=tuple(range(7)), std=tuple(range(1, 8)))


def watch_windows(seed: int, num: int = 4) -> np.ndarray:
    shape = (num, WATCH.num_input_samples, 4)
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


def fitted(
    windows_BTC: np.ndarray,
    steps: Preprocessing | None = None,
    sensors: SensorInput | None = None,
) -> Normaliser:
    fit = NormaliserFit(steps, sensors)
    fit.add(windows_BTC)
    return fit.fitted()


def test_the_normaliser_gives_mean_0_and_std_1_on_what_it_was_fitted_on() -> None:
    windows_BTC = np.random.default_rng(0).normal(5, 3, (50, 5, 2)).astype(np.float32)
    prepared = prepare(windows_BTC, Preprocessing(normaliser=fitted(windows_BTC)))
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std((0, 1)), 1, atol=1e-5)


def test_a_channel_that_never_moves_stays_finite() -> None:
    windows_BTC = np.full((3, 5, 2), 7, np.float32)
    prepared = prepare(windows_BTC, Preprocessing(normaliser=fitted(windows_BTC)))
    np.testing.assert_array_equal(prepared, 0)


@given(cuts=st.lists(st.integers(0, 40), max_size=4))
def test_a_normaliser_fitted_to_parts_is_that_of_the_whole(cuts: list[int]) -> None:
    windows_BTC = watch_windows(1, num=40) * 100 + 5000
    windows_BTC[:, :, 2] = 7
    steps = Preprocessing(steps=STEPS)
    joined = NormaliserFit(steps, WATCH)
    for part_BTC in np.split(windows_BTC, sorted(cuts)):
        fit = NormaliserFit(steps, WATCH)
        fit.add(part_BTC)
        joined.merge(fit)
    whole, found = fitted(windows_BTC, steps, WATCH), joined.fitted()
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-9)
    np.testing.assert_allclose(found.std, whole.std, rtol=1e-7)


@given(num=st.integers(1, 6), cut=st.integers(0, 6))
def test_windows_are_prepared_one_by_one(num: int, cut: int) -> None:
    windows_BTC = np.random.default_rng(num).normal(size=(num, 5, 2)).astype(np.float32)
    preprocessing = Preprocessing(normaliser=Normaliser(mean=(1.0, 2.0), std=(2.0, 0.5)))
    together = prepare(windows_BTC, preprocessing)
    parts = [prepare(part, preprocessing) for part in (windows_BTC[:cut], windows_BTC[cut:])]
    np.testing.assert_array_equal(together, np.concatenate(parts))


def test_one_window_gets_its_batch_axis() -> None:
    assert check_windows(np.zeros((5, 2)), SENSORS).shape == (1, 5, 2)


@pytest.mark.parametrize("shape", [(1, 4, 2), (1, 5, 3), (5,), (1, 1, 5, 2), (2, 5)])
def test_a_wrong_shape_names_the_right_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must have shape \[5, 2\]: 5 samples at 5 Hz"):
        check_windows(np.zeros(shape), SENSORS)


def test_no_windows_are_refused() -> None:
    with pytest.raises(InputError, match="no windows"):
        check_windows(np.zeros((0, 5, 2)), SENSORS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found(bad: float) -> None:
    windows = np.zeros((3, 5, 2))
    windows[1, 4, 1] = bad
    with pytest.raises(InputError, match="window 1, sample 4, channel b"):
        check_windows(windows, SENSORS)


def test_infinities_of_both_signs_do_not_cancel_out() -> None:
    windows = np.zeros((1, 5, 2))
    windows[0, 0, 0], windows[0, 1, 0] = np.inf, -np.inf
    with pytest.raises(InputError, match="2 values"):
        check_windows(windows, SENSORS)


def test_large_finite_values_pass() -> None:
    windows = np.full((2, 5, 2), 3e38, np.float32)
    np.testing.assert_array_equal(check_windows(windows, SENSORS), windows)


def test_the_context_is_part_of_the_shape_and_named() -> None:
    assert check_windows(np.zeros((2, 70, 4)), WATCH).shape == (2, 70, 4)
    with pytest.raises(
        InputError, match=r"\[70, 4\]: 70 samples .*first 40 are the 2 s of context"
    ):
        check_windows(np.zeros((2, 30, 4)), WATCH)


def test_the_network_sees_the_window_without_its_context() -> None:
    windows_BTC = watch_windows(0)
    prepared = prepare(windows_BTC, Preprocessing(), WATCH)
    np.testing.assert_array_equal(prepared, windows_BTC[:, 40:])
    assert prepared.flags.c_contiguous


def test_windows_without_their_context_are_refused_rather_than_cut() -> None:
    with pytest.raises(InputError, match="30 samples were given"):
        prepare(watch_windows(0)[:, 40:], Preprocessing(), WATCH)


def test_steps_need_the_rate_and_the_names() -> None:
    with pytest.raises(ValueError, match="need the signature's sensors"):
        prepare(watch_windows(0), Preprocessing(steps=STEPS))


def test_steps_leave_their_input_alone() -> None:
    windows_BTC = watch_windows(0)
    before = windows_BTC.copy()
    prepare(windows_BTC, Preprocessing(steps=STEPS), WATCH)
    np.testing.assert_array_equal(windows_BTC, before)


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        ("both", "acc_x acc_y acc_z heart_rate gravity_x gravity_y gravity_z"),
        ("linear", "acc_x acc_y acc_z heart_rate"),
        ("gravity", "gravity_x gravity_y gravity_z heart_rate"),
    ],
)
def test_the_channels_that_come_out_are_those_that_are_announced(keep: str, names: str) -> None:
    steps = (GravitySplitStep(keep=keep),)  # type: ignore[arg-type]
    channels = output_channels(WATCH.channels, steps)
    assert " ".join(channel.name for channel in channels) == names
    assert {channel.unit for channel in channels if channel.name != "heart_rate"} == {"m/s^2"}
    windows_BTC = np.broadcast_to(np.float32([0, 9.81, 0, 60]), (2, 70, 4))
    prepared = prepare(windows_BTC, Preprocessing(steps=steps), WATCH)
    expected = {"acc_y": 0 if keep != "gravity" else 9.81, "gravity_y": 9.81, "heart_rate": 60}
    for column, channel in enumerate(channels):
        np.testing.assert_allclose(prepared[..., column], expected.get(channel.name, 0), atol=1e-5)


def test_the_normaliser_is_fitted_on_what_comes_out_of_the_steps() -> None:
    windows_BTC = watch_windows(0, num=600)
    steps = Preprocessing(steps=STEPS)
    normaliser = fitted(windows_BTC, steps, WATCH)
    prepared = prepare(windows_BTC, Preprocessing(steps=STEPS, normaliser=normaliser), WATCH)
    assert prepared.shape == (600, 30, 7)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(prepared.std((0, 1)), 1, atol=1e-4)


@given(num=st.integers(1, 6), cut=st.integers(0, 6))
def test_windows_are_filtered_one_by_one(num: int, cut: int) -> None:
    windows_BTC = watch_windows(num, num)
    preprocessing = Preprocessing(steps=STEPS, normaliser=NORMALISER)
    together = prepare(windows_BTC, preprocessing, WATCH)
    parts = [prepare(part, preprocessing, WATCH) for part in (windows_BTC[:cut], windows_BTC[cut:])]
    np.testing.assert_allclose(np.concatenate(parts), together, rtol=1e-6, atol=1e-6)


def test_with_enough_context_it_does_not_matter_what_came_before() -> None:
    steps: tuple[Step, ...] = (LowPassStep(cutoff_hz=2.0),)
    needed_s = settling_s(steps, WATCH.rate_hz)
    sensors = WATCH.model_copy(update={"context_s": needed_s})
    cut_short = np.sin(np.arange(sensors.num_input_samples) / 9)[None, :, None] * np.ones(4)
    other = cut_short.copy()
    other[:, 0] += 1
    preprocessing = Preprocessing(steps=steps)
    one, two = (prepare(item, preprocessing, sensors) for item in (cut_short, other))
    assert np.abs(one - two).max() <= 0.01
    without = WATCH.model_copy(update={"context_s": 0.0})
    one, two = (prepare(item[:, :30], preprocessing, without) for item in (cut_short, other))
    assert np.abs(one - two).max() > 0.5


def test_settling_adds_up() -> None:
    assert settling_s((), 20.0) == 0
    assert settling_s((HampelStep(window_s=0.35),), 20.0) == pytest.approx(3 / 20)
    # Gravity at 0.3 Hz takes about 5 s.
    assert settling_s((GravitySplitStep(),), 20.0) == pytest.approx(5, abs=0.5)
    assert settling_s(STEPS, 20.0) == pytest.approx(
        sum(settling_s((step,), 20.0) for step in STEPS)
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (LowPassStep(cutoff_hz=10.0), r"steps\.0 \(low_pass\): cutoff_hz 10 .* under 10"),
        (GravitySplitStep(cutoff_hz=20), r"cutoff_hz 20 .* under 10"),
        (HampelStep(window_s=0.1), r"\(hampel\): window_s 0\.1 is 2 samples .* 0\.15 or more"),
    ],
)
def test_steps_that_do_not_fit_the_rate_say_how_to_mend_it(step: Step, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_steps((step,), WATCH.channels, WATCH.rate_hz)


@pytest.mark.parametrize(
    ("keeps", "message"),
    [
        (("gravity", "both"), r"steps\.1 .* no channel acc_x, acc_y, acc_z .* gravity_x"),
        (("both", "both"), r"steps\.1 .* channel gravity_x, gravity_y, gravity_z already"),
    ],
)
def test_gravity_cannot_be_split_off_twice(keeps: tuple[str, str], message: str) -> None:
    steps = tuple(GravitySplitStep(keep=keep) for keep in keeps)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=message):
        check_steps(steps, WATCH.channels, WATCH.rate_hz)


def test_gravity_needs_acceleration() -> None:
    with pytest.raises(RecipeError, match=r"no channel acc_x, acc_y, acc_z at this step .*: a, b"):
        check_steps((GravitySplitStep(),), SENSORS.channels, 5.0)


def signature_of(**preprocessing: object) -> Signature:
    return Signature(
        inputs=(WATCH,),
        outputs=(ClassesOutput(classes=("a", "b")),),
        preprocessing=Preprocessing(**preprocessing),  # type: ignore[arg-type]
    )


def test_a_signature_keeps_its_steps() -> None:
    signature = signature_of(steps=STEPS, normaliser=NORMALISER, max_gap_s=0.5)
    assert parse_signature(signature.model_dump_json().encode(), "here") == signature


def test_a_signature_refuses_steps_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="cutoff_hz 30 must be below half the rate"):
        signature_of(steps=(LowPassStep(cutoff_hz=30),))
    with pytest.raises(ValidationError, match="has 7 channels, the steps give 4"):
        signature_of(normaliser=NORMALISER)
    content = signature_of(steps=STEPS).model_dump_json().replace('"hampel"', '"smooth"')
    with pytest.raises(ArtefactError, match=r"here: .*smooth"):
        parse_signature(content.encode(), "here")


def test_a_zero_phase_filter_has_an_even_order() -> None:
    with pytest.raises(ValidationError, match="order must be even"):
        LowPassStep(cutoff_hz=3, order=3, zero_phase=True)


def cut(time_s: np.ndarray, values_TC: np.ndarray, cuts: list[int]) -> list[Window]:
    windower = Windower(
        native_rate_hz=25.0,
        rate_hz=WATCH.rate_hz,
        length_s=WATCH.length_s,
        hop_s=WATCH.hop_s,
        context_s=WATCH.context_s,
        max_gap_s=0.2,
    )
    windows = []
    for first, last in itertools.pairwise([0, *cuts, len(time_s)]):
        windows += windower.push(time_s[first:last], values_TC[first:last])
    return windows + windower.finish()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), num_samples=st.integers(1, 500))
def test_a_file_and_a_live_stream_give_the_network_the_same(seed: int, num_samples: int) -> None:
    rng = np.random.default_rng(seed)
    steps_s = rng.uniform(0.8, 1.2, num_samples) / 25
    steps_s[rng.random(num_samples) < 0.005] += 2.0
    time_s = np.cumsum(steps_s)
    values_TC = rng.normal(2, 5, (num_samples, 4)).astype(np.float32)
    values_TC[rng.random(values_TC.shape) < 0.01] = np.nan
    preprocessing = Preprocessing(max_gap_s=0.2, steps=STEPS, normaliser=NORMALISER)

    whole = cut(time_s, values_TC, [])
    for cuts in (list(range(1, num_samples)), sorted(rng.integers(0, num_samples, 6).tolist())):
        pieces = cut(time_s, values_TC, cuts)
        assert [window.start_s for window in pieces] == [window.start_s for window in whole]
        if not whole:
            continue
        expected = prepare(np.stack([window.values_TC for window in whole]), preprocessing, WATCH)
        # Live, one window is prepared at a time.
        found = [prepare(window.values_TC[None], preprocessing, WATCH) for window in pieces]
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-5)


def test_the_windows_of_that_stream_are_not_none() -> None:
    time_s = np.arange(500) / 25
    assert len(cut(time_s, np.ones((500, 4)), [])) == 38
