from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from motoric.core.errors import UserError
from motoric.data.synthetic.exercises import EXERCISES, Exercise, make_subject
from motoric.data.synthetic.kinematics import JOINTS, joint_positions
from motoric.data.synthetic.rendering import encode_video, render_frames

TIME_S = np.arange(0, 3, 0.1)


def draw(exercise: Exercise = "jumping_jack", seed: int = 0) -> np.ndarray:
    positions_TJ3 = joint_positions(exercise, make_subject(seed), TIME_S)
    return np.stack(list(render_frames(positions_TJ3, (120, 160), seed)))


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_figure_moves_in_front_of_a_still_background(exercise: Exercise) -> None:
    frames_THW3 = draw(exercise)
    assert frames_THW3.shape == (30, 120, 160, 3)
    assert frames_THW3.dtype == np.uint8
    spread_HW = frames_THW3.std(axis=0).max(axis=-1)
    assert spread_HW.max() > 20
    # The figure stays within the picture.
    assert spread_HW[:, :4].max() == spread_HW[:, -4:].max() == spread_HW[:3].max() == 0
    assert (spread_HW == 0).mean() > 0.5


def test_the_right_hand_is_on_the_left_of_the_picture() -> None:
    frames_THW3 = draw("biceps_curl").astype(np.float64)
    columns_W = frames_THW3.std(axis=0).sum(axis=(0, 2))
    assert columns_W[:80].sum() > 3 * columns_W[80:].sum()


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    positions_TJ3 = joint_positions("squat", make_subject(0), TIME_S[:2])
    one, again, other = (next(render_frames(positions_TJ3, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert (one != other).mean() > 0.5


def test_edges_are_smoothed() -> None:
    frame_HW3 = draw()[0]
    assert len(np.unique(frame_HW3.reshape(-1, 3), axis=0)) > 300


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.mp4", "other.mp4"):
        assert encode_video(tmp_path / name, iter(draw()), 15) == 30
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()


@pytest.mark.parametrize("rate_hz", [15.0, 29.97, 25.0])
def test_a_video_decodes_to_the_frames_that_went_in(tmp_path: Path, rate_hz: float) -> None:
    frames_THW3 = draw()
    encode_video(tmp_path / "clip.mp4", frames_THW3, rate_hz)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        decoded = list(container.decode(stream))
    assert [frame.time for frame in decoded] == pytest.approx(np.arange(30) / rate_hz, abs=1e-3)
    seen_THW3 = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    assert np.abs(seen_THW3.astype(float) - frames_THW3).mean() < 4


@pytest.mark.parametrize(
    ("shapes", "rate_hz", "message"),
    [
        ([], 15, "no frames"),
        ([(31, 32, 3)], 15, "even sizes, not 32 x 31"),
        ([(32, 32, 3), (32, 34, 3)], 15, "frame 1 is of shape"),
        ([(32, 32, 3)], 0, "rate above 0"),
    ],
)
def test_frames_that_make_no_video_are_refused(
    tmp_path: Path, shapes: list[tuple[int, int, int]], rate_hz: float, message: str
) -> None:
    frames = [np.zeros(shape, dtype=np.uint8) for shape in shapes]
    with pytest.raises(UserError, match=message):
        encode_video(tmp_path / "clip.mp4", frames, rate_hz)


def test_positions_that_are_no_figure_are_refused() -> None:
    with pytest.raises(UserError, match="not a figure"):
        render_frames(np.zeros((2, 5, 3)))
    with pytest.raises(UserError, match="too small"):
        render_frames(np.zeros((2, len(JOINTS), 3)), (8, 160))
