"""A contact sheet: example clips on one picture, so that a person sees what a model is given.

In: titled clips. Out: the bytes of a PNG. Axes: T frames, H height, W width, C channels (RGB).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GAP_PX = 4
_TITLE_PX = 18
_FONT_PX = 13


def contact_sheet(
    clips: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int = 8, frame_height: int = 112
) -> bytes:
    """Draw one row a clip: its title and frames spread evenly over it.

    Args:
        clips: Title and clip of shape (T, H, W, C), uint8, each with one frame at least.
        columns: Frames of a row at most.
        frame_height: Pixels; the width follows from each clip's aspect.

    Returns:
        A PNG.

    Raises:
        ValueError: There are no clips, or one that is not of that shape.
    """
    if not clips or columns < 1 or frame_height < 1:
        raise ValueError("a contact sheet needs clips, columns and a height of frames")
    rows = [(title, _frames(title, clip_THWC, columns, frame_height)) for title, clip_THWC in clips]
    font = ImageFont.load_default(size=_FONT_PX)
    row_height = _TITLE_PX + frame_height + _GAP_PX
    widths = [sum(frame.width + _GAP_PX for frame in frames) for _, frames in rows]
    titles = [_GAP_PX + int(font.getlength(title)) for title, _ in rows]
    sheet = Image.new(
        "RGB", (max(widths + titles) + _GAP_PX, row_height * len(rows) + _GAP_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for row, (title, frames) in enumerate(rows):
        top, left = row * row_height, _GAP_PX
        draw.text((left, top + 2), title, fill="black", font=font)
        for frame in frames:
            sheet.paste(frame, (left, top + _TITLE_PX))
            left += frame.width + _GAP_PX
    content = io.BytesIO()
    sheet.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _frames(
    title: str, clip_THWC: NDArray[np.uint8], columns: int, frame_height: int
) -> list[Image.Image]:
    if clip_THWC.ndim != 4 or clip_THWC.shape[-1] != 3 or 0 in clip_THWC.shape:
        raise ValueError(
            f"clip {title!r} has shape {clip_THWC.shape}: it needs (frames, height, width, 3)"
        )
    num_frames, height, width, _ = clip_THWC.shape
    size = max(1, round(width * frame_height / height)), frame_height
    positions = np.linspace(0, num_frames - 1, min(columns, num_frames)).round().astype(int)
    return [Image.fromarray(clip_THWC[position]).resize(size) for position in positions]
