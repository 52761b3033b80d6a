from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from motoric.core import storage
from motoric.core.errors import NotFoundError, UnreadableError
from motoric.data.ingest.samples import Notes
from motoric.data.recording import Video
from motoric.data.video.container import open_file
from motoric.data.video.frames import FrameReader
from motoric.data.video.probe import probe
from videos import (
    HEIGHT,
    RATE_HZ,
    WIDTH,
    Shape,
    cut,
    damage_packets,
    number_of,
    numbered_frame,
    write_sound,
    write_video,
)

CONTAINERS = [
    ("mp4", Shape()),
    ("mov", Shape(codec="hevc")),
    ("mp4", Shape(codec="mpeg4", b_frames=2)),
    ("mp4", Shape(codec="libsvtav1")),
    ("mkv", Shape()),
    ("mkv", Shape(codec="libsvtav1")),
    ("webm", Shape(codec="libvpx-vp9")),
    ("avi", Shape(codec="mpeg4")),
    ("avi", Shape(codec="mpeg4", b_frames=2)),
    ("avi", Shape()),
]
EACH_CONTAINER = pytest.mark.parametrize(
    ("suffix", "shape"),
    CONTAINERS,
    ids=[f"{shape.codec}-{shape.b_frames or 0}.{suffix}" for suffix, shape in CONTAINERS],
)


def look(path: Path) -> tuple[Video, Notes]:
    notes = Notes()
    return probe(str(path), "0" * 64, path.stat().st_size, notes), notes


def numbers_at(path: Path, times_s: list[float]) -> list[int]:
    with FrameReader(str(path)) as reader:
        return [number_of(frame.rgb_HWC) for frame in reader.read(times_s)]


@EACH_CONTAINER
def test_every_frame_comes_at_its_time(tmp_path: Path, suffix: str, shape: Shape) -> None:
    path = write_video(tmp_path / f"v.{suffix}", shape=shape)
    assert numbers_at(path, [index / RATE_HZ for index in range(45)]) == list(range(45))


@EACH_CONTAINER
def test_seeking_gives_the_frames_of_decoding_everything(
    tmp_path: Path, suffix: str, shape: Shape
) -> None:
    path = write_video(tmp_path / f"v.{suffix}", shape=shape)
    order = [31, 32, 40, 3, 44, 19, 20, 0, 30, 29]
    with FrameReader(str(path)) as reader:
        every = list(reader.read(index / RATE_HZ for index in range(45)))
    with FrameReader(str(path)) as reader:
        some = list(reader.read((index + 0.5) / RATE_HZ for index in order))
    for index, frame in zip(order, some, strict=True):
        assert frame.time_s == every[index].time_s
        np.testing.assert_array_equal(frame.rgb_HWC, every[index].rgb_HWC)


@EACH_CONTAINER
def test_a_probe_describes_the_video(tmp_path: Path, suffix: str, shape: Shape) -> None:
    video, notes = look(write_video(tmp_path / f"v.{suffix}", shape=shape))
    names = {"libsvtav1": "av1", "libvpx-vp9": "vp9"}
    assert video.codec == names.get(shape.codec, shape.codec)
    assert (video.width, video.height, video.rotation_deg) == (WIDTH, HEIGHT, 0)
    assert video.num_frames == 45
    assert video.duration_s == pytest.approx(1.5, abs=0.002)
    assert video.rate_hz == pytest.approx(RATE_HZ, abs=0.05)
    assert not video.is_variable_rate
    assert notes.flags == []


def test_times_between_before_and_after_the_frames_show_what_a_player_shows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=10)
    assert numbers_at(path, [-1.0, 0.99 / 30, 1.01 / 30, 4.5 / 30, 99.0, 99.0]) == [
        0,
        0,
        1,
        4,
        9,
        9,
    ]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("first", [0, 700])
def test_variable_rates_go_by_timestamps(tmp_path: Path, suffix: str, first: int) -> None:
    steps = [40, 40, 200, 10, 40, 400, 33, 34, 40, 500, 10, 10, 90]
    ticks = [first, *(first + int(tick) for tick in np.cumsum(steps))]
    path = write_video(
        tmp_path / f"v.{suffix}", ticks=ticks, time_base=Fraction(1, 1000), shape=Shape(gop=4)
    )
    times_s = [(tick - first) / 1000 for tick in ticks]
    assert numbers_at(path, [time_s + 0.004 for time_s in times_s]) == list(range(14))
    assert numbers_at(path, [times_s[6] - 0.01, times_s[10] - 0.01]) == [5, 9]
    video, notes = look(path)
    assert video.is_variable_rate
    assert video.num_frames == 14
    assert times_s[-1] < video.duration_s < times_s[-1] + 0.2
    assert video.rate_hz == pytest.approx(14 / video.duration_s)
    assert notes.flags == []


def test_a_constant_rate_rounded_to_milliseconds_is_not_variable(tmp_path: Path) -> None:
    ticks = [round(index * 1000 / 30) for index in range(30)]
    path = write_video(tmp_path / "v.mkv", ticks=ticks, time_base=Fraction(1, 1000))
    assert not look(path)[0].is_variable_rate
    assert numbers_at(path, [index / 30 for index in range(30)]) == list(range(30))


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_frames_come_upright(tmp_path: Path, turn_deg: int, is_mirrored: bool) -> None:
    shape = Shape(turn_deg=turn_deg, is_mirrored=is_mirrored)
    path = write_video(tmp_path / "v.mp4", num_frames=6, shape=shape)
    video, _ = look(path)
    assert (video.width, video.height) == (WIDTH, HEIGHT)
    # A mirror after a turn of one quarter is stored as the same matrix as one before three.
    assert video.rotation_deg in ({turn_deg, -turn_deg % 360} if is_mirrored else {turn_deg})
    with FrameReader(str(path)) as reader:
        (frame,) = reader.read([5 / RATE_HZ])
    assert frame.rgb_HWC.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frame.rgb_HWC.astype(int) - numbered_frame(5)).mean() < 12


def test_a_crop_keeps_the_aspect_of_an_upright_frame_and_a_stretch_does_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=6, shape=Shape(turn_deg=90))
    with FrameReader(str(path), height=48, width=48) as reader:
        (cropped,) = reader.read([5 / RATE_HZ])
    with FrameReader(str(path), height=48, width=32, resize="stretch") as reader:
        (stretched,) = reader.read([5 / RATE_HZ])
    half_HWC = numbered_frame(5)[::2, ::2]
    assert np.abs(cropped.rgb_HWC.astype(int) - half_HWC[:, 8:56]).mean() < 15
    assert stretched.rgb_HWC.shape == (48, 32, 3)
    assert number_of(stretched.rgb_HWC) == 5


def test_pixels_that_are_not_square_are_shown_square(tmp_path: Path) -> None:
    shape = Shape(pixel_aspect=Fraction(3, 2))
    path = write_video(tmp_path / "v.mp4", num_frames=6, shape=shape)
    assert look(path)[0].width == WIDTH * 3 // 2
    with FrameReader(str(path)) as reader:
        (frame,) = reader.read([0])
    assert frame.rgb_HWC.shape == (HEIGHT, WIDTH * 3 // 2, 3)


def test_a_frame_wanted_twice_is_converted_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=6)
    with FrameReader(str(path)) as reader:
        first, second, third = reader.read([0.07, 0.09, 0.11])
    assert first is second
    assert second is not third


# Damage within a frame: Matroska's own header before it, of some bytes, stays whole.
@pytest.mark.parametrize(("suffix", "skip_bytes"), [("mp4", 0), ("mkv", 12)])
def test_a_damaged_packet_is_passed_over(tmp_path: Path, suffix: str, skip_bytes: int) -> None:
    path = damage_packets(write_video(tmp_path / f"v.{suffix}"), 14, 16, skip_bytes=skip_bytes)
    with FrameReader(str(path)) as reader:
        numbers = [number_of(f.rgb_HWC) for f in reader.read(i / RATE_HZ for i in range(45))]
        assert reader.num_errors > 0
    assert numbers[:11] == list(range(11))
    assert numbers[20:] == list(range(20, 45))


def test_what_lies_between_keyframes_is_not_decoded(tmp_path: Path) -> None:
    path = damage_packets(write_video(tmp_path / "v.mp4"), 11, 19)
    with FrameReader(str(path)) as reader:
        assert [number_of(f.rgb_HWC) for f in reader.read([0, 35 / RATE_HZ])] == [0, 35]
        assert reader.num_errors == 0


def test_damage_near_the_end_is_noted_and_the_rest_counts(tmp_path: Path) -> None:
    path = damage_packets(write_video(tmp_path / "v.mp4"), 42, 43)
    video, notes = look(path)
    (flag,) = notes.flags
    assert (flag.kind, flag.is_repair) == ("damaged_packets", True)
    assert video.num_frames == 45


@pytest.mark.parametrize(
    ("suffix", "shape"),
    [
        ("mp4", Shape(b_frames=0, has_index_first=True)),
        ("mp4", Shape(codec="libsvtav1", has_index_first=True)),
        ("mkv", Shape(b_frames=0)),
        ("mkv", Shape(b_frames=0, with_audio_s=3.0)),
        ("webm", Shape(codec="libvpx-vp9")),
        ("avi", Shape(codec="mpeg4")),
    ],
)
def test_a_truncated_video_counts_what_can_be_read(
    tmp_path: Path, suffix: str, shape: Shape
) -> None:
    path = cut(write_video(tmp_path / f"v.{suffix}", num_frames=90, shape=shape), 0.5)
    video, notes = look(path)
    (flag,) = notes.flags
    assert (flag.kind, flag.is_repair) == ("truncated", True)
    assert 10 < video.num_frames < 70
    assert video.duration_s == pytest.approx(video.num_frames / RATE_HZ, abs=0.05)
    numbers = numbers_at(path, [index / RATE_HZ for index in range(video.num_frames)])
    assert numbers == list(range(video.num_frames))
    assert numbers_at(path, [2.9, 1.0, 2.95]) == [numbers[-1], min(30, numbers[-1]), numbers[-1]]


def test_sound_that_goes_on_after_the_video_is_no_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", num_frames=30, shape=Shape(with_audio_s=3.0))
    video, notes = look(path)
    assert notes.flags == []
    assert video.duration_s == pytest.approx(1.0, abs=0.01)


def test_titles_that_are_not_utf8_are_noted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", num_frames=5, shape=Shape(title="Kür am Reck"))
    path.write_bytes(path.read_bytes().replace("Kür".encode(), b"K\xfc\xfcr"))
    video, notes = look(path)
    (flag,) = notes.flags
    assert (flag.kind, flag.is_repair) == ("metadata_not_utf8", False)
    assert video.num_frames == 5


def without_frames(path: Path) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


UNREADABLE = {
    "empty": (lambda folder: written(folder / "v.mp4", b""), r"empty \(0 bytes\)"),
    "text": (lambda folder: written(folder / "v.txt", b"squats, Monday\n" * 99), "not a video"),
    "playlist": (
        lambda folder: written(folder / "v.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n"),
        "not a video that can be read: it needs to be mp4",
    ),
    "sound": (lambda folder: write_sound(folder / "v.m4a"), "has no video stream: audio only"),
    "no frames": (lambda folder: without_frames(folder / "v.avi"), "not one frame"),
    "no index": (
        lambda folder: cut(write_video(folder / "v.mp4"), 0.5),
        "before its index was written.*copy it again",
    ),
    "junk": (
        lambda folder: damage_packets(write_video(folder / "v.mp4"), 0, 99),
        r"not one of its frames decodes \(h264\)",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_gives_no_frame_says_why_and_nothing_reaches_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    make, message = UNREADABLE[kind]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(UnreadableError, match=message) as caught:
        look(path)
    assert path.name not in caught.value.message
    assert capfd.readouterr().err == ""


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.mp4"):
        probe(str(tmp_path / "gone.mp4"), "", 1, Notes())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_file_objects_are_read_like_paths(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", num_frames=12)
    with storage.open_input(str(path)) as file, open_file(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [number_of(frame) for frame in frames] == list(range(12))


REAL = {
    "R6llTwEh07w.mp4": ("h264", 340, 256, 303, 30.0),
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": ("mpeg4", 560, 240, 72, 30.0),
    "basketball.mp4": ("h264", 640, 360, 333, 29.97),
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": ("mpeg4", 320, 240, 83, 30.0),
    "v_SoccerJuggling_g23_c01.avi": ("mpeg4", 320, 240, 240, 29.97),
    "sports2d_demo_vp9.mp4": ("vp9", 1768, 994, 230, 30.0),
}


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("MOTORIC_TEST_DATA")
    if folder is None:
        pytest.skip("MOTORIC_TEST_DATA does not name the folder of real data")
    return Path(folder)


@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_described_and_seeking_agrees(real_data: Path, name: str) -> None:
    video, notes = look(real_data / "videos" / name)
    assert (video.codec, video.width, video.height, video.num_frames) == REAL[name][:4]
    assert video.rate_hz == pytest.approx(REAL[name][4], abs=0.01)
    assert not video.is_variable_rate
    assert [flag.kind for flag in notes.flags] == ["metadata_not_utf8"] * ("cartwheel" in name)
    times_s = [index / video.rate_hz for index in (5, 41, 64)]
    with FrameReader(video.uri, height=56, width=56) as reader:
        forward = list(reader.read(times_s))
        backward = list(reader.read(times_s[::-1]))[::-1]
    for index, one, other in zip((5, 41, 64), forward, backward, strict=True):
        assert one.time_s == pytest.approx(index / video.rate_hz, abs=0.001)
        assert one.time_s == other.time_s
        np.testing.assert_array_equal(one.rgb_HWC, other.rgb_HWC)


def test_real_depth_videos_are_read_whole(real_data: Path) -> None:
    for path in sorted((real_data / "utd_mhad" / "video").glob("a1_s1_t*.mp4")):
        video, notes = look(path)
        assert notes.flags == []
        with FrameReader(video.uri) as reader:
            frames = list(reader.read(i / video.rate_hz for i in range(video.num_frames)))
        assert len({frame.time_s for frame in frames}) == video.num_frames
