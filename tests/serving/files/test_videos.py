from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from exported import model_of
from filmed import write_blinking
from motoric.artefact.clips import clip_spec, coloured
from motoric.artefact.signature import ClipInput
from motoric.artefact.timeline import smooth
from motoric.data.ingest.samples import Notes
from motoric.data.video.clips import clip_spans, decode_clips
from motoric.data.video.probe import probe
from recordings import LABELS, RATE_HZ
from videos import cut, write_sound, write_video
from whole_files import FileServer, csv_of, windows_of

MP4 = "video/mp4"


def clips_by_training(path: Path, clip: ClipInput) -> tuple[np.ndarray, np.ndarray]:
    """Starts and clips of a video as training cuts them."""
    video = probe(str(path), "", path.stat().st_size, Notes())
    spans = clip_spans(video.duration_s, (), clip_spec(clip))
    clips = [coloured(item, clip) for item in decode_clips(str(path), spans, clip_spec(clip))]
    return np.array([span.start_s for span in spans]), np.stack(clips)


@pytest.mark.parametrize("name", ["r2plus1d", "frame_recurrent"])
def test_a_video_gives_the_timeline_that_the_predictor_gives_offline(
    served: FileServer, tmp_path: Path, name: str
) -> None:
    predictor = served.release(**model_of(name, hop_s=0.3))
    clip = predictor.signature.clip_input
    path = write_blinking(tmp_path / "a.mp4", 1, 6.0)
    answer = served.answer(path.read_bytes(), MP4, "?windows=true")
    starts, clips = clips_by_training(path, clip)
    outputs_BK = predictor.predict(clips=clips)
    assert answer["num_windows"] == len(starts) > 10
    assert answer["duration_s"] == pytest.approx(6.0)
    found_BK = [list(item["probabilities"].values()) for item in answer["windows"]]
    np.testing.assert_allclose(found_BK, outputs_BK, atol=1e-5)
    expected = smooth(starts, outputs_BK, length_s=0.65, hop_s=0.3, classes=LABELS)
    assert [(item["label"], item["start_s"]) for item in answer["segments"]] == [
        (segment.label, pytest.approx(segment.start_s, abs=1e-6)) for segment in expected
    ]
    clips_alone = served.answer(clips[:3].tobytes(), "application/octet-stream")
    assert [item["label"] for item in clips_alone["predictions"]] == [
        item["label"] for item in answer["windows"][:3]
    ]


def test_a_model_of_whole_movements_gives_one_segment(served: FileServer, tmp_path: Path) -> None:
    predictor = served.release(**model_of("r2plus1d", length_s=None, hop_s=None))
    path = write_blinking(tmp_path / "a.mp4", 2, 3.0)
    answer = served.answer(path.read_bytes(), MP4)
    (segment,) = answer["segments"]
    _, clips = clips_by_training(path, predictor.signature.clip_input)
    (row,) = predictor.predict(clips=clips)
    assert (segment["start_s"], segment["end_s"]) == (0.0, pytest.approx(3.0))
    np.testing.assert_allclose(list(segment["probabilities"].values()), row, atol=1e-5)


def sines(num: int) -> np.ndarray:
    time_T = np.arange(num) / RATE_HZ
    return np.sin(2 * np.pi * time_T[:, None] * [1.0, 1.5, 2.0]).astype(np.float32)


def test_both_files_of_a_recording_go_to_a_fused_model_together(
    served: FileServer, tmp_path: Path
) -> None:
    predictor = served.release(**model_of("fusion", optional=True))
    video = write_blinking(tmp_path / "a.mp4", 0, 4.0)
    values_TC = sines(200)  # 10 s, of which 4 s from 2 s on were filmed
    table = csv_of(values_TC, "acc_x,acc_y,acc_z", RATE_HZ)
    files = {"sensors": ("imu.csv", table), "video": ("a.mp4", video.read_bytes())}
    answer = served.answer(query="?windows=true&video_offset_s=2", files=files)
    assert answer["duration_s"] == pytest.approx(10.0)
    windows_BTC = windows_of(values_TC, 13, 20)
    inputs = [item["inputs"] for item in answer["windows"]]
    assert inputs == [["windows", "clips"] if 2 <= i <= 5 else ["windows"] for i in range(10)]
    clip = predictor.signature.clip_input
    spans = clip_spans(4.0, (), clip_spec(clip), 2.0)
    clips = list(decode_clips(str(video), spans, clip_spec(clip), 2.0))
    clips_BTHWC = np.zeros((10, *clip.shape), np.uint8)
    clips_BTHWC[2:6] = clips
    present_B2 = np.array([[True, 2 <= i <= 5] for i in range(10)])
    outputs_BK = predictor.predict(windows_BTC, clips_BTHWC, present_B2)
    found_BK = [list(item["probabilities"].values()) for item in answer["windows"]]
    np.testing.assert_allclose(found_BK, outputs_BK, atol=1e-5)

    alone = served.answer(table, "text/csv", "?windows=true")
    assert {tuple(item["inputs"]) for item in alone["windows"]} == {("windows",)}
    alone = served.answer(video.read_bytes(), MP4, "?windows=true")
    assert {tuple(item["inputs"]) for item in alone["windows"]} == {("clips",)}


def test_a_fused_model_that_needs_both_says_so(served: FileServer, tmp_path: Path) -> None:
    served.release(**model_of("fusion"))
    video = write_blinking(tmp_path / "a.mp4", 0, 2.0).read_bytes()
    assert "needs a sensor file" in served.problem(422, video, MP4)
    table = csv_of(sines(60), "acc_x,acc_y,acc_z")
    assert "needs a video" in served.problem(422, table, "text/csv")


def test_a_model_of_the_other_kind_refuses_a_file(served: FileServer, tmp_path: Path) -> None:
    served.release(**model_of("r2plus1d"))
    assert "takes no sensor file" in served.problem(422, csv_of(sines(60)), "text/csv")
    served.release()
    video = write_blinking(tmp_path / "a.mp4", 0, 2.0).read_bytes()
    assert "takes no video" in served.problem(422, video, MP4)


def gigantic(path: Path) -> Path:
    """A video whose header claims pictures of 16,000 x 16,000 pixels."""
    with av.open(path, "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 16_000
        stream.pix_fmt = "gray"
        frame = av.VideoFrame(16_000, 16_000, "gray")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_videos_that_cannot_be_used_say_why(served: FileServer, tmp_path: Path) -> None:
    served.release(**model_of("r2plus1d"))
    whole = write_video(tmp_path / "whole.mp4", num_frames=60)
    for content, status, says in (
        (b"", 400, "empty (0 bytes)"),
        (b"squats on Monday\n" * 900, 400, "not a video that can be read"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n", 400, "not a video that can be read"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", 400, "not a video that can be read"),
        (cut(whole, 0.5).read_bytes(), 400, "without a whole index"),
        (write_sound(tmp_path / "sound.mp4").read_bytes(), 400, "has no video stream"),
        (write_blinking(tmp_path / "b.mp4", 0, 0.5).read_bytes(), 422, "one clip needs 0.65 s"),
        (gigantic(tmp_path / "g.mov").read_bytes(), 413, "16000 x 16000 pixels"),
    ):
        assert says in served.problem(status, content, MP4), says


def test_limits_on_videos_are_kept(served: FileServer, tmp_path: Path) -> None:
    served.release(**model_of("r2plus1d"))
    video = write_blinking(tmp_path / "a.mp4", 0, 5.0).read_bytes()
    served.set_files(max_duration_s=4)
    assert "a file may be 4 s" in served.problem(413, video, MP4)
    served.set_files(max_windows=3)
    assert "more than 3 windows" in served.problem(413, video, MP4)
    hours = write_video(tmp_path / "hours.mkv", ticks=[0, 1, 20_000 * 30]).read_bytes()
    served.set_files()
    assert "a file may be 14400 s" in served.problem(413, hours, "video/x-matroska")


@pytest.mark.skipif("MOTORIC_TEST_DATA" not in os.environ, reason="no real recordings are named")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sports2d_demo_vp9.mp4", MP4),
        ("hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", "video/x-msvideo"),
    ],
)
def test_real_videos_give_what_the_predictor_gives_offline(
    served: FileServer, name: str, kind: str
) -> None:
    predictor = served.release(**model_of("r2plus1d"))
    path = Path(os.environ["MOTORIC_TEST_DATA"]) / "videos" / name
    answer = served.answer(path.read_bytes(), kind, "?windows=true")
    _, clips = clips_by_training(path, predictor.signature.clip_input)
    found_BK = [list(item["probabilities"].values()) for item in answer["windows"]]
    np.testing.assert_allclose(found_BK, predictor.predict(clips=clips), atol=1e-5)


def test_a_video_in_other_containers_is_read_too(served: FileServer, tmp_path: Path) -> None:
    served.release(**model_of("r2plus1d"))
    for suffix, kind in (("mkv", "video/x-matroska"), ("mov", "video/quicktime")):
        path = write_blinking(tmp_path / f"a.{suffix}", 1, 2.0)
        answer = served.answer(path.read_bytes(), kind)
        assert answer == served.answer(files={"file": (path.name, path.read_bytes())})
