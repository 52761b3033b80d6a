from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow.csv as pcsv
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from motoric.core.errors import DatasetError, UserError
from motoric.data.dataset import Dataset, open_dataset
from motoric.data.sources.utd_mhad import ACTIONS, JOINTS, LEG_ACTIONS, UtdMhad
from recordings import build_here


def inertial(seed: int, num_samples: int = 160) -> NDArray[np.float64]:
    values_TC = np.random.default_rng(seed).standard_normal((num_samples, 6))
    values_TC[:, 2] += 1.0
    values_TC[:, 3:] *= 90.0
    return values_TC


def skeleton(num_frames: int = 55) -> NDArray[np.float64]:
    joint, axis, frame = np.meshgrid(np.arange(20), np.arange(3), np.arange(num_frames))
    return (0.1 * joint + 0.01 * axis + 0.001 * frame).transpose(1, 0, 2)


def write_video(path: Path, num_frames: int = 45) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height = 640, 480
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            picture = np.full((480, 640, 3), index * 5, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def write_mat(folder: Path, name: str, kind: str, **variables: NDArray[np.generic]) -> Path:
    path = folder / kind.capitalize() / f"{name}_{kind}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)
    return path


def write_trial(folder: Path, name: str, seed: int = 0) -> None:
    write_mat(folder, name, "inertial", d_iner=inertial(seed))
    write_mat(folder, name, "skeleton", d_skel=skeleton())


def build(folder: Path) -> Dataset:
    uri = str(folder.parent / f"{folder.name}-dataset")
    build_here(UtdMhad(folder), uri)
    return open_dataset(uri)


def quarantine(dataset: Dataset) -> dict[str, tuple[str, str]]:
    rows = dataset.quarantine_table().to_pylist()
    return {row["recording_id"]: (row["kind"], row["reason"]) for row in rows}


def test_the_published_layout_gives_sensors_joints_and_colour_video(tmp_path: Path) -> None:
    folder = tmp_path / "utd"
    write_trial(folder, "a1_s1_t1")
    write_video(folder / "RGB-part1" / "a1_s1_t1_color.avi")
    depth = np.zeros((240, 320, 3), np.uint16)
    write_mat(folder, "a1_s1_t1", "depth", d_depth=depth)
    write_trial(folder, "a27_s8_t4")
    dataset = build(folder)
    assert dataset.labels() == ["squat", "swipe_left"]
    assert dataset.subjects() == ["s1", "s8"]
    recording = dataset.recording("a1_s1_t1")
    imu, pose = recording.stream("imu"), recording.stream("pose")
    expected = inertial(0) * np.repeat([9.80665, np.pi / 180], 3)
    np.testing.assert_allclose(imu.values_TC, expected, rtol=1e-5)
    np.testing.assert_allclose(imu.time_s, np.arange(160) / 50)
    assert [item.unit for item in imu.channels] == ["m/s^2"] * 3 + ["rad/s"] * 3
    assert pose.rate_hz == 30
    assert pose.values_TC.shape == (55, 60)
    names = [item.name for item in pose.channels]
    for joint, axis in (("head", 0), ("left_wrist", 1), ("right_foot", 2)):
        column = names.index(f"{joint}_{'xyz'[axis]}")
        told = skeleton()[JOINTS.index(joint), axis]
        np.testing.assert_allclose(pose.values_TC[:, column], told, rtol=1e-5)
    assert recording.video is not None
    assert (recording.video.width, recording.video.num_frames) == (640, 45)
    assert recording.metadata == {
        "trial": "1",
        "sensor_placement": "right_wrist",
        "video_kind": "rgb",
    }
    assert [flag.kind for flag in recording.flags if "depth" in flag.kind] == ["depth_left_out"]
    other = dataset.recording("a27_s8_t4")
    assert other.video is None
    assert other.metadata == {"trial": "4", "sensor_placement": "right_thigh"}


def test_a_recording_may_have_one_kind_of_file_only(tmp_path: Path) -> None:
    folder = tmp_path / "utd"
    write_mat(folder, "a2_s1_t1", "inertial", d_iner=inertial(1))
    write_mat(folder, "a2_s1_t2", "skeleton", d_skel=skeleton())
    write_mat(folder, "a2_s1_t3", "depth", d_depth=np.zeros((240, 320, 2), np.uint16))
    write_video(folder / "RGB" / "a2_s1_t4_color.avi")
    dataset = build(folder)
    streams = {item.recording_id: len(item.streams) for item in dataset.recordings()}
    assert streams == {"a2_s1_t1": 1, "a2_s1_t2": 1, "a2_s1_t4": 0}
    assert quarantine(dataset) == {
        "Depth/a2_s1_t3_depth.mat": ("skipped", "depth alone is not read")
    }


def test_broken_files_are_rejected_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "utd"
    for trial in range(1, 8):
        write_trial(folder, f"a3_s2_t{trial}", trial)
    cut = folder / "Inertial" / "a3_s2_t1_inertial.mat"
    cut.write_bytes(cut.read_bytes()[:-700])
    (folder / "Inertial" / "a3_s2_t2_inertial.mat").write_bytes(
        b"PK\x03\x04 not a MATLAB file" * 20
    )
    write_mat(folder, "a3_s2_t3", "inertial", d_iner=inertial(0)[:, :5])
    write_mat(folder, "a3_s2_t4", "skeleton", joints=skeleton())
    write_mat(folder, "a3_s2_t5", "inertial", d_iner=np.array([["x"] * 6] * 9, dtype=object))
    (folder / "Skeleton" / "a3_s2_t6_skeleton.mat").write_bytes(b"")
    dataset = build(folder)
    assert [item.recording_id for item in dataset.recordings()] == ["a3_s2_t7"]
    found = quarantine(dataset)
    assert {kind for kind, _ in found.values()} == {"rejected"}
    told = {
        "a3_s2_t1": "a3_s2_t1_inertial.mat is not a sound MATLAB file",
        "a3_s2_t2": "a3_s2_t2_inertial.mat is not a sound MATLAB file",
        "a3_s2_t3": "d_iner is 160 x 5, not T x 6",
        "a3_s2_t4": "has no variable d_skel (20 x 3 x T)",
        "a3_s2_t5": "d_iner holds object, not numbers",
        "a3_s2_t6": "a3_s2_t6_skeleton.mat is not a sound MATLAB file",
    }
    for recording_id, message in told.items():
        assert message in found[recording_id][1]


def test_other_files_are_named_in_the_quarantine(tmp_path: Path) -> None:
    folder = tmp_path / "utd"
    write_trial(folder, "a3_s2_t1")
    write_mat(folder, "a28_s1_t1", "inertial", d_iner=inertial(0))
    (folder / "Inertial" / "notes.txt").write_text("hello")
    (folder / "Inertial" / ".DS_Store").write_text("")
    assert quarantine(build(folder)) == {
        "Inertial/a28_s1_t1_inertial.mat": (
            "rejected",
            "a28 is none of the actions a1 to a27",
        ),
        "Inertial/notes.txt": ("skipped", "is not named like a1_s1_t1_inertial.mat"),
    }


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    folder, uri = tmp_path / "utd", str(tmp_path / "dataset")
    for trial in (1, 2):
        write_trial(folder, f"a4_s1_t{trial}", trial)
    build_here(UtdMhad(folder), uri)
    travelled = pickle.loads(pickle.dumps(UtdMhad(folder)))  # noqa: S301
    assert build_here(travelled, uri).reused
    write_mat(folder, "a4_s1_t2", "inertial", d_iner=inertial(9))
    result = build_here(UtdMhad(folder), uri)
    assert (result.num_added, result.num_changed, result.num_removed) == (0, 1, 0)


def test_without_a_folder_the_error_says_where_to_get_it() -> None:
    with pytest.raises(UserError, match=r"utdallas.*--from DIR"):
        UtdMhad()


def test_a_folder_of_something_else_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "Inertial").mkdir()
    with pytest.raises(DatasetError, match=r"manifest\.csv.*Inertial/a1_s1_t1_inertial\.mat"):
        UtdMhad(tmp_path)


def real_folder() -> Path:
    root = os.environ.get("MOTORIC_TEST_DATA")
    if not root or not (Path(root) / "utd_mhad").is_dir():
        pytest.skip("MOTORIC_TEST_DATA names no folder with utd_mhad")
    return Path(root) / "utd_mhad"


def test_both_layouts_name_actions_and_placement_alike() -> None:
    table = pcsv.read_csv(real_folder() / "manifest.csv").to_pylist()
    assert len(table) == 754
    for row in table:
        label = ACTIONS[int(row["recording_id"].split("_")[0][1:]) - 1]
        placement = "right_thigh" if label in LEG_ACTIONS else "right_wrist"
        assert (row["label"], row["sensor_placement"]) == (label, placement)


def test_the_manifest_layout_is_read_with_its_depth_video(tmp_path: Path) -> None:
    real, folder = real_folder(), tmp_path / "utd"
    header, *lines = (real / "manifest.csv").read_text().splitlines()
    kept = [row for row in lines if row.split(",")[0] in ("a1_s1_t1", "a27_s7_t4")]
    (folder / "sensors").mkdir(parents=True)
    (folder / "video").mkdir()
    (folder / "manifest.csv").write_text("\n".join([header, *kept]) + "\n")
    for row in kept:
        for name in row.split(",")[-2:]:
            shutil.copyfile(real / name, folder / name)
    dataset = build(folder)
    assert dataset.labels() == ["squat", "swipe_left"]
    recording = dataset.recording("a1_s1_t1")
    stream = recording.stream("imu")
    assert [(item.name, item.unit) for item in stream.channels] == [
        *((f"acc_{axis}", "m/s^2") for axis in "xyz"),
        *((f"gyr_{axis}", "rad/s") for axis in "xyz"),
    ]
    assert stream.rate_hz == pytest.approx(50)
    assert 5 < np.median(np.linalg.norm(stream.values_TC[:, :3], axis=1)) < 15
    assert recording.metadata["video_kind"] == "depth"
    assert recording.metadata["sensor_placement"] == "right_wrist"
    assert recording.video is not None
    assert (recording.video.width, recording.video.height) == (160, 120)
