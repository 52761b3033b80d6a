from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from motoric.data.video.contact_sheet import contact_sheet


def clip(num_frames: int, height: int = 40, width: int = 60) -> np.ndarray:
    greys = np.linspace(10, 240, num_frames).astype(np.uint8)
    return np.ones((num_frames, height, width, 3), np.uint8) * greys[:, None, None, None]


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_each_clip_is_a_row_of_frames_spread_over_it() -> None:
    sheet_HWC = pixels(contact_sheet([("a", clip(30)), ("b", clip(3))], columns=4, frame_height=20))
    first_row = [int(sheet_HWC[28, 4 + 15 + column * 34, 0]) for column in range(4)]
    assert first_row[0] == 10
    assert first_row[3] == 240
    assert np.ptp(np.diff(first_row)) < 20
    second_row = [int(sheet_HWC[28 + 42, 4 + 15 + column * 34, 0]) for column in range(4)]
    assert second_row == [10, 125, 240, 255]


def test_titles_are_written_and_never_cut_off() -> None:
    short, long = (contact_sheet([(title, clip(1))]) for title in ("x", "a long title " * 9))
    assert (pixels(short)[:18] < 128).any()
    assert pixels(long).shape[1] > pixels(short).shape[1]
    assert (pixels(long)[:, -4:] == 255).all()


@pytest.mark.parametrize(
    "clips", [[], [("a", np.zeros((0, 4, 4, 3), np.uint8))], [("a", np.zeros((4, 4, 3), np.uint8))]]
)
def test_what_is_no_clip_is_refused(clips: list[tuple[str, np.ndarray]]) -> None:
    with pytest.raises(ValueError, match="clip"):
        contact_sheet(clips)
