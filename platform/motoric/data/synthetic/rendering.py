"""Frames and video files of an articulated figure.

SYNTHETIC: drawn limbs in front of a drawn wall, no person and no camera. It exists so that tests
and the demo have videos that belong to the sensor data of `kinematics` and may be given to anyone;
it does not look like footage, and a model trained on it says nothing about footage.

In: joint positions in metres. Out: RGB frames, and a file of them.

Axes: T frames, J joints of `kinematics.JOINTS`, 3 the world's x, y, z or red, green, blue, P
corners of an outline, 2 pixels right and down, HW3 a frame. The camera stands in front of the
subject, a little to the subject's right, at the height of the chest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from motoric.core.errors import UserError
from motoric.data.synthetic.kinematics import JOINTS

Frame = NDArray[np.uint8]
Floats = NDArray[np.float64]
_Colour = tuple[int, int, int]

_SUPERSAMPLE = 2
# Camera, in metres and radians.
_DISTANCE_M = 4.2
_CAMERA_Z_M = 1.25
_LOOK_AT_M = (0.0, 0.15, 1.08)
_AZIMUTH_RAD = 0.45
# Seen from edge to edge at the subject: the higher of what the height and the width need.
_SPAN_Z_M = 2.6
_SPAN_X_M = 2.6

# Each part: two joints, radius at each in metres, and what it wears.
_PARTS: tuple[tuple[str, str, float, float, str], ...] = (
    *(
        part
        for side in ("right", "left")
        for part in (
            (f"{side}_hip", f"{side}_knee", 0.085, 0.058, "trousers"),
            (f"{side}_knee", f"{side}_ankle", 0.056, 0.038, "skin"),
            (f"{side}_ankle", f"{side}_toe", 0.042, 0.034, "shoes"),
            (f"{side}_shoulder", f"{side}_elbow", 0.05, 0.042, "shirt"),
            (f"{side}_elbow", f"{side}_wrist", 0.04, 0.03, "skin"),
            (f"{side}_wrist", f"{side}_hand", 0.036, 0.03, "skin"),
        )
    ),
    ("neck", "head", 0.05, 0.05, "skin"),
)
_CORNERS = ((-1, -1), (-1, 1), (1, 1), (1, -1))
_TRUNK_CORNERS = ("right_shoulder", "left_shoulder", "left_hip", "right_hip")
_HAND_OF_FOREARM = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What stays the same in all frames: colours, lights, and the picture behind the figure."""

    colours: dict[str, _Colour]
    background: Image.Image
    focal_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Projected:
    """Points in the picture: pixels, distance from the camera, and pixels a metre there."""

    points_J2: Floats
    depth_m_J: Floats
    scale_J: Floats


def render_frames(
    positions_TJ3: Floats, size: tuple[int, int] = (120, 160), seed: int = 0
) -> Iterator[Frame]:
    """Draw the figure, anti-aliased, one RGB frame (height, width, 3) for each time.

    Args:
        positions_TJ3: As `kinematics.joint_positions` gives them, metres.
        size: Height and width of the frames in pixels, 16 or more.
        seed: Of clothes, wall and floor.

    Raises:
        UserError: Positions of another shape, or frames too small to draw.
    """
    if positions_TJ3.ndim != 3 or positions_TJ3.shape[1:] != (len(JOINTS), 3):
        raise UserError(
            f"positions of shape {positions_TJ3.shape} are not a figure: give (T, {len(JOINTS)}, 3)"
        )
    if min(size) < 16:
        raise UserError(f"frames of {size[0]} x {size[1]} pixels are too small: give 16 or more")
    return _frames(positions_TJ3, size, seed)


def encode_video(path: Path, frames: Iterable[Frame], rate_hz: float, *, crf: int = 23) -> int:
    """Write frames as H.264 (yuv420p) in the container of the path's suffix, such as `.mp4`.

    The same frames give the same bytes, as long as FFmpeg and x264 stay the same.

    Args:
        path: File to write; its folder exists.
        frames: RGB, all of one even height and width.
        rate_hz: Frame rate.
        crf: x264's constant rate factor: higher is smaller and worse.

    Returns:
        Number of frames written.

    Raises:
        UserError: No frames, an odd size, frames that differ in size, or a rate that is not
            positive.
    """
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise UserError(f"a video of {rate_hz} frames a second cannot be: give a rate above 0")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"no frames for the video {path}")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise UserError(f"H.264 wants even sizes, not {width} x {height}: crop or pad the frames")
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        stream.codec_context.flags |= Flags.bitexact
        num_frames = 1
        _encode(container, stream, first)
        for frame in frames:
            if frame.shape != first.shape:
                raise UserError(
                    f"frame {num_frames} is of shape {frame.shape}, the first of {first.shape}:"
                    " a video has one size"
                )
            _encode(container, stream, frame)
            num_frames += 1
        container.mux(stream.encode(None))
    return num_frames


def _encode(container: av.container.OutputContainer, stream: VideoStream, frame: Frame) -> None:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    container.mux(stream.encode(picture))


def _frames(positions_TJ3: Floats, size: tuple[int, int], seed: int) -> Iterator[Frame]:
    height, width = size
    scene = _make_scene(height * _SUPERSAMPLE, width * _SUPERSAMPLE, seed)
    for positions_J3 in positions_TJ3:
        picture = scene.background.copy()
        _draw_figure(ImageDraw.Draw(picture), scene, positions_J3, picture.size)
        yield np.asarray(picture.reduce(_SUPERSAMPLE))


def _make_scene(height: int, width: int, seed: int) -> _Scene:
    rng = np.random.default_rng([seed, 7])
    skin_dark = rng.uniform(0, 1)
    colours: dict[str, _Colour] = {
        "skin": _mix((236, 190, 160), (112, 72, 52), skin_dark),
        "hair": _mix((40, 28, 22), (150, 110, 60), rng.uniform(0, 1)),
        "shirt": _hue(rng.uniform(), 0.65, 0.8),
        "trousers": _hue(rng.uniform(), 0.4, 0.35),
        "shoes": _mix((40, 40, 46), (230, 230, 230), rng.uniform(0, 1)),
    }
    focal_px = _DISTANCE_M * min(height / _SPAN_Z_M, width / _SPAN_X_M)
    background = _draw_background(height, width, focal_px, rng)
    return _Scene(colours=colours, background=background, focal_px=focal_px)


def _draw_background(
    height: int, width: int, focal_px: float, rng: np.random.Generator
) -> Image.Image:
    """A wall that is lit from above with some panels on it, and a floor of boards."""
    wall = np.array(_hue(rng.uniform(), 0.12, rng.uniform(0.55, 0.85)), dtype=np.float64)
    floor = np.array(_hue(rng.uniform(0.05, 0.12), 0.35, rng.uniform(0.4, 0.65)), dtype=np.float64)
    wall_foot = _project(np.array([[-6.0, -2.2, 0], [6.0, -2.2, 0]]), (width, height), focal_px)
    left_y, right_y = wall_foot.points_J2[:, 1]
    left_x, right_x = wall_foot.points_J2[:, 0]
    row_H1, column_1W = np.arange(height)[:, None], np.arange(width)[None, :]
    edge_1W = left_y + (column_1W - left_x) / (right_x - left_x) * (right_y - left_y)
    light_HW = np.where(
        row_H1 < edge_1W, 1.06 - 0.22 * row_H1 / height, 0.75 + 0.3 * row_H1 / height
    )
    pixels_HW3 = np.where((row_H1 < edge_1W)[..., None], wall, floor) * light_HW[..., None]
    picture = Image.fromarray(np.clip(pixels_HW3, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 5))):
        x_m, z_m = rng.uniform(-2.5, 2.5), rng.uniform(1.2, 2.6)
        half_x_m, half_z_m = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5)
        corners_43 = np.array([(x_m + i * half_x_m, -2.2, z_m + j * half_z_m) for i, j in _CORNERS])
        outline = _project(corners_43, (width, height), focal_px).points_J2
        colour = tuple(int(value) for value in np.clip(wall * rng.uniform(0.7, 1.2), 0, 255))
        draw.polygon(_flat(outline), fill=colour)
    board = tuple(int(value) for value in floor * 0.72)
    for x_m in np.arange(-4.0, 4.1, 0.5):
        ends_23 = np.array([[x_m, -2.2, 0.0], [x_m, 2.6, 0.0]])
        draw.line(_flat(_project(ends_23, (width, height), focal_px).points_J2), fill=board)
    return picture


def _project(points_J3: Floats, size: tuple[int, int], focal_px: float) -> _Projected:
    """Pinhole camera: `size` is width and height of the picture."""
    look_at_3 = np.array(_LOOK_AT_M)
    # The picture's right is the subject's left, as for anyone who stands in front of somebody.
    sin, cos = math.sin(_AZIMUTH_RAD), math.cos(_AZIMUTH_RAD)
    away_3 = np.array([sin, cos, (_CAMERA_Z_M - look_at_3[2]) / _DISTANCE_M])
    away_3 /= np.linalg.norm(away_3)
    right_3 = np.array([-cos, sin, 0.0])
    up_3 = np.cross(away_3, right_3)
    relative_J3 = points_J3 - look_at_3
    depth_J = _DISTANCE_M - relative_J3 @ away_3
    scale_J = focal_px / depth_J
    points_J2 = np.stack(
        [
            size[0] / 2 + scale_J * (relative_J3 @ right_3),
            size[1] / 2 - scale_J * (relative_J3 @ up_3),
        ],
        axis=1,
    )
    return _Projected(points_J2=points_J2, depth_m_J=depth_J, scale_J=scale_J)


_INDEX = {name: index for index, name in enumerate((*JOINTS, "right_hand", "left_hand"))}
_ENDS_P2 = np.array([(_INDEX[start], _INDEX[end]) for start, end, *_ in _PARTS])
_TRUNK = [_INDEX[name] for name in _TRUNK_CORNERS]


def _draw_figure(
    draw: ImageDraw.ImageDraw, scene: _Scene, positions_J3: Floats, size: tuple[int, int]
) -> None:
    hands_23 = []
    for side in ("right", "left"):
        elbow_3, wrist_3 = (positions_J3[_INDEX[f"{side}_{joint}"]] for joint in ("elbow", "wrist"))
        hands_23.append(wrist_3 + _HAND_OF_FOREARM * (wrist_3 - elbow_3))
    seen = _project(np.concatenate([positions_J3, hands_23]), size, scene.focal_px)
    _draw_shadow(draw, scene, positions_J3, size)
    depth_m_P = seen.depth_m_J[_ENDS_P2].mean(axis=1)
    trunk_m = seen.depth_m_J[_TRUNK].mean()
    nearest_m, span_m = depth_m_P.min(), 1.2
    trunk_is_drawn = False
    for part in np.argsort(-depth_m_P, kind="stable"):
        if not trunk_is_drawn and depth_m_P[part] < trunk_m:
            _draw_trunk(draw, scene, seen)
            trunk_is_drawn = True
        start, end = _ENDS_P2[part]
        *_, start_m, end_m, wears = _PARTS[part]
        light = 1.0 - 0.3 * min(1.0, (depth_m_P[part] - nearest_m) / span_m)
        _draw_limb(
            draw,
            seen.points_J2[start],
            seen.points_J2[end],
            (start_m * seen.scale_J[start], end_m * seen.scale_J[end]),
            _lit(scene.colours[wears], light),
        )
    if not trunk_is_drawn:
        _draw_trunk(draw, scene, seen)
    _draw_head(draw, scene, seen)


def _draw_trunk(draw: ImageDraw.ImageDraw, scene: _Scene, seen: _Projected) -> None:
    """Shirt between shoulders and hips, rounded at the corners."""
    colour = _lit(scene.colours["shirt"], 0.92)
    corners_P2, scale_P = seen.points_J2[_TRUNK], seen.scale_J[_TRUNK]
    draw.polygon(_flat(corners_P2), fill=colour)
    for corner, radius_m in ((0, 0.07), (1, 0.07), (2, 0.095), (3, 0.095)):
        after = (corner + 1) % 4
        radius_px = radius_m * scale_P[corner]
        after_px = (0.07, 0.095, 0.095, 0.07)[corner] * scale_P[after]
        _draw_limb(draw, corners_P2[corner], corners_P2[after], (radius_px, after_px), colour)


def _draw_head(draw: ImageDraw.ImageDraw, scene: _Scene, seen: _Projected) -> None:
    x, y = seen.points_J2[_INDEX["head"]]
    scale = seen.scale_J[_INDEX["head"]]
    wide, high = 0.085 * scale, 0.115 * scale
    draw.ellipse((x - wide, y - high * 1.08, x + wide, y + high), fill=scene.colours["hair"])
    # The face looks the subject's way, which is to the left of a camera on the subject's right.
    turned = 0.18 * wide
    face = (x - wide * 0.86 + turned, y - high * 0.62, x + wide * 0.86 + turned, y + high)
    draw.ellipse(face, fill=scene.colours["skin"])


def _draw_shadow(
    draw: ImageDraw.ImageDraw, scene: _Scene, positions_J3: Floats, size: tuple[int, int]
) -> None:
    ankles_23 = positions_J3[[_INDEX["right_ankle"], _INDEX["left_ankle"]]] * np.array([1, 1, 0])
    seen = _project(ankles_23, size, scene.focal_px)
    radius_px = 0.16 * float(seen.scale_J.mean())
    dark = _mix(scene.colours["hair"], (60, 50, 45), 0.8)
    left, right = sorted(seen.points_J2[:, 0])
    top, bottom = sorted(seen.points_J2[:, 1])
    box = (left - radius_px, top - radius_px / 3, right + radius_px, bottom + radius_px / 3)
    draw.ellipse(box, fill=dark)


def _draw_limb(
    draw: ImageDraw.ImageDraw,
    start_2: Floats,
    end_2: Floats,
    radii_px: tuple[float, float],
    colour: _Colour,
) -> None:
    """A tapered limb with round ends."""
    along_x, along_y = float(end_2[0] - start_2[0]), float(end_2[1] - start_2[1])
    length_px = math.hypot(along_x, along_y) or 1.0
    across_x, across_y = -along_y / length_px, along_x / length_px
    outline: list[float] = []
    for (x, y), radius_px, turn in ((start_2, radii_px[0], 1), (end_2, radii_px[1], -1)):
        for reach in (turn * radius_px, -turn * radius_px):
            outline += [x + reach * across_x, y + reach * across_y]
        draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=colour)
    draw.polygon(outline, fill=colour)


def _flat(points_P2: Floats) -> list[float]:
    return [float(value) for value in points_P2.ravel()]


def _lit(colour: _Colour, light: float) -> _Colour:
    red, green, blue = (int(min(255, part * light)) for part in colour)
    return red, green, blue


def _mix(one: _Colour, other: _Colour, share: float) -> _Colour:
    red, green, blue = (int((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _hue(hue: float, saturation: float, value: float) -> _Colour:
    """Red, green and blue of a hue 0 to 1 (A. R. Smith, Color gamut transform pairs, 1978)."""
    red, green, blue = (
        int(255 * value * (1 - saturation * max(0.0, min(k, 4 - k, 1.0))))
        for k in ((offset + 6 * hue) % 6 for offset in (5, 3, 1))
    )
    return red, green, blue
