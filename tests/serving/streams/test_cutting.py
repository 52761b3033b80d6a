from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from motoric.artefact.signature import Channel, SensorInput
from motoric.data.windows import Window, Windower
from motoric.serving.streams.cutting import CutWindow, LiveCutter, replay_s

RATE_HZ = 20.0
# Windows are float32, of values around 1 to 10.
TOLERANCE = 5e-6


@dataclass(frozen=True)
class Case:
    sensors: SensorInput
    native_rate_hz: float
    max_gap_s: float
    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float32]

    def cutter(self, **options: object) -> LiveCutter:
        return LiveCutter(
            sensors=self.sensors,
            max_gap_s=self.max_gap_s,
            native_rate_hz=self.native_rate_hz,
            **options,  # type: ignore[arg-type]
        )

    def windower(self) -> Windower:
        return Windower(
            native_rate_hz=self.native_rate_hz,
            rate_hz=self.sensors.rate_hz,
            length_s=self.sensors.length_s,
            hop_s=self.sensors.hop_s,
            context_s=self.sensors.context_s,
            max_gap_s=self.max_gap_s,
        )

    def whole(self) -> list[Window]:
        windower = self.windower()
        return windower.push(self.time_s, self.values_TC) + windower.finish()

    def pushed(self, cutter: LiveCutter, start: int, stop: int) -> list[CutWindow]:
        return cutter.push(self.time_s[start:stop], self.values_TC[start:stop])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    native_rate_hz = draw(st.sampled_from([20.0, 25.0, 50.0, 12.5, 8.0, 20.013, 33.3, 100.0]))
    num_samples = draw(st.integers(1, 45))
    sensors = SensorInput(
        channels=(Channel(name="a", unit="1"), Channel(name="b", unit="1")),
        rate_hz=RATE_HZ,
        length_s=num_samples / RATE_HZ,
        hop_s=draw(st.integers(1, 60)) / RATE_HZ,
        context_s=draw(st.integers(0, 30)) / RATE_HZ,
    )
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    length = draw(st.integers(1, 700))
    steps_s = np.full(length, 1 / native_rate_hz)
    if draw(st.booleans()):
        steps_s *= generator.uniform(0.6, 1.4, length)
    gaps = draw(st.lists(st.tuples(st.integers(0, 699), st.floats(0.05, 8.0)), max_size=6))
    for place, gap_s in gaps:
        steps_s[place % length] += gap_s
    values_TC = generator.normal(size=(length, 2)).cumsum(axis=0).astype(np.float32) / 5 + 3
    missing = draw(
        st.lists(
            st.tuples(st.integers(0, 699), st.integers(1, 120), st.sampled_from([0, 1, None])),
            max_size=5,
        )
    )
    for place, run, column in missing:
        first = place % length
        values_TC[first : first + run, slice(None) if column is None else column] = np.nan
    return Case(
        sensors=sensors,
        native_rate_hz=native_rate_hz,
        max_gap_s=draw(st.sampled_from([0.0, 0.2, 1.0])),
        time_s=draw(st.sampled_from([0.0, 1.7e9, -3.0])) + np.cumsum(steps_s),
        values_TC=values_TC,
    )


def check_same(found: list[CutWindow], expected: list[Window]) -> None:
    assert [window.number for window in found] == list(range(len(expected)))
    for one, other in zip(found, expected, strict=True):
        assert one.start_s == pytest.approx(other.start_s, abs=1e-5)
        assert one.end_s == pytest.approx(other.end_s, abs=1e-5)
        np.testing.assert_allclose(one.values_TC, other.values_TC, rtol=0, atol=TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(
    case=cases(),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    is_on_grid=st.booleans(),
    resumed=st.sets(st.integers(0, 20), max_size=4),
)
def test_a_numbered_stream_is_cut_like_one_with_times(
    case: Case, sizes: list[int], is_on_grid: bool, resumed: set[int]
) -> None:
    length = len(case.values_TC)
    rate_hz = RATE_HZ if is_on_grid else case.native_rate_hz
    case = replace(case, native_rate_hz=rate_hz, time_s=np.arange(length) / rate_hz)
    cutter, found, start, turn = case.cutter(origin_s=0.0), [], 0, 0
    while start < length:
        stop = min(start + sizes[turn % len(sizes)], length)
        found += cutter.push_numbered(case.values_TC[start:stop])
        assert cutter.replay_from <= stop
        start, turn = stop, turn + 1
        if turn in resumed:
            resume = cutter.resume()
            start = resume.replay_from
            cutter = case.cutter(resume=resume)
    check_same(found + cutter.finish(), case.whole())


@settings(max_examples=20, deadline=None)
@given(case=cases(), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_a_stream_is_cut_into_the_windows_of_its_file(case: Case, sizes: list[int]) -> None:
    cutter, found, start, turn = case.cutter(), [], 0, 0
    while start < len(case.time_s):
        stop = start + sizes[turn % len(sizes)]
        found += case.pushed(cutter, start, stop)
        start, turn = stop, turn + 1
    check_same(found + cutter.finish(), case.whole())


@settings(max_examples=30, deadline=None)
@given(case=cases(), cuts=st.lists(st.tuples(st.integers(0, 699), st.integers(0, 40)), max_size=6))
def test_a_stream_cut_anywhere_goes_on_from_the_place_of_its_last_window(
    case: Case, cuts: list[tuple[int, int]]
) -> None:
    cutter, found, at = case.cutter(), [], 0
    resume = None
    for cut, num_lost in sorted(cuts):
        stop = max(at, cut % (len(case.time_s) + 1))
        windows = case.pushed(cutter, at, stop)
        # The last windows of a connection are lost with it.
        windows = windows[: len(windows) - num_lost % (len(windows) + 1)]
        found += windows
        if windows:
            resume = windows[-1].resume
        cutter = case.cutter(resume=resume)
        at = 0 if resume is None else resume.replay_from
    found += case.pushed(cutter, at, len(case.time_s)) + cutter.finish()
    check_same(found, case.whole())


@settings(max_examples=30, deadline=None)
@given(case=cases(), size=st.integers(1, 60), data=st.data())
def test_a_stream_goes_on_from_wherever_it_is_between_two_windows(
    case: Case, size: int, data: st.DataObject
) -> None:
    cutter, found = case.cutter(), []
    num_resumes = 0
    for start in range(0, len(case.time_s), size):
        found += case.pushed(cutter, start, start + size)
        stop = min(start + size, len(case.time_s))
        if num_resumes < 5 and data.draw(st.booleans()):
            num_resumes += 1
            resume = cutter.resume()
            cutter = case.cutter(resume=resume)
            found += case.pushed(cutter, resume.replay_from, stop)
    check_same(found + cutter.finish(), case.whole())


@settings(max_examples=6, deadline=None)
@given(case=cases())
def test_what_is_replayed_is_at_most_the_span_that_is_promised(case: Case) -> None:
    cutter = case.cutter()
    most_s = replay_s(case.sensors, case.native_rate_hz, case.max_gap_s)
    last = 0
    for sample, time_s in enumerate(case.time_s):
        case.pushed(cutter, sample, sample + 1)
        assert last <= cutter.replay_from <= sample + 1
        last = cutter.replay_from
        if last <= sample:
            assert time_s - case.time_s[last] <= most_s
    assert cutter.resume().replay_from == last


def test_a_stream_without_any_value_keeps_little() -> None:
    case = Case(
        sensors=SensorInput(
            channels=(Channel(name="a", unit="1"),), rate_hz=RATE_HZ, length_s=1.0, hop_s=1.0
        ),
        native_rate_hz=RATE_HZ,
        max_gap_s=0.0,
        time_s=np.arange(10_000) / RATE_HZ,
        values_TC=np.full((10_000, 1), np.nan, dtype=np.float32),
    )
    cutter = case.cutter()
    for start in range(0, 10_000, 50):
        assert case.pushed(cutter, start, start + 50) == []
        assert cutter.num_held < 100
    assert cutter.replay_from > 9_900
