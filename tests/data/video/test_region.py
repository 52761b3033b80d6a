from __future__ import annotations

import numpy as np
import pytest

from filmed import SIDE, write_blinking
from motoric.core.errors import RecipeError
from motoric.data.video.clips import ClipSpec
from motoric.data.video.frames import FrameReader


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In its first frame the second quarter from the left is red, the rest dark."""
    return str(write_blinking(tmp_path_factory.mktemp("video") / "v.mp4", 1, 1.0))


def first_frame(video: str, **options: object) -> np.ndarray:
    with FrameReader(video, **options) as reader:  # type: ignore[arg-type]
        return next(iter(reader.read([0.0]))).rgb_HWC.astype(float)


def test_a_region_is_what_the_whole_picture_shows_there(video: str) -> None:
    whole_HWC = first_frame(video)
    part_HWC = first_frame(video, region=(0.5, 0.25, 1.0, 0.75))
    assert part_HWC.shape == (SIDE // 2, SIDE // 2, 3)
    np.testing.assert_array_equal(part_HWC, whole_HWC[SIDE // 2 :, SIDE // 4 : 3 * SIDE // 4])


def test_a_region_is_scaled_to_the_size_asked_for(video: str) -> None:
    red_HWC = first_frame(video, height=16, width=8, region=(0.0, 0.25, 1.0, 0.5))
    dark_HWC = first_frame(video, height=16, width=8, region=(0.0, 0.75, 1.0, 1.0))
    assert red_HWC.shape == dark_HWC.shape == (16, 8, 3)
    assert red_HWC[:, 2:6, 0].mean() > 180
    assert dark_HWC[:, 2:6, 0].mean() < 80
    stretched_HWC = first_frame(
        video, height=8, width=8, region=(0.0, 0.25, 1.0, 0.5), resize="stretch"
    )
    assert stretched_HWC[:, 2:6, 0].mean() > 180


@pytest.mark.parametrize("region", [(0.5, 0.0, 0.5, 1.0), (0.0, 0.9, 1.0, 0.1), (0, 0, 1.1, 1)])
def test_a_region_that_is_none_is_refused(region: tuple[float, float, float, float]) -> None:
    with pytest.raises(RecipeError, match=r"clip\.region"):
        ClipSpec(num_frames=4, height=8, width=8, region=region)
