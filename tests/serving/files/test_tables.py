from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artefacts import CLASSES, small_graph, small_signature
from motoric.artefact.signature import Channel, QuantilesOutput, Signature, ValueOutput
from motoric.artefact.timeline import smooth
from motoric.data.recording import STANDARD_GRAVITY_M_S2
from whole_files import (
    CHANNELS,
    RATE_HZ,
    FileServer,
    columns_of,
    csv_of,
    heart_signature,
    mean_graph,
    windows_of,
)

LABELS = [0] * 60 + [1] * 80 + [2] * 61


def test_a_csv_gives_the_timeline_that_the_predictor_gives_offline(served: FileServer) -> None:
    predictor = served.release()
    rng = np.random.default_rng(0)
    values_TC = (columns_of(LABELS) + rng.normal(scale=0.05, size=(len(LABELS), 4))).astype("f4")
    answer = served.answer(csv_of(values_TC, rate_hz=RATE_HZ), "text/csv", "?windows=true")
    outputs_BK = predictor.predict(windows_of(values_TC))
    sensors = predictor.signature.sensors
    expected = smooth(
        0.5 * np.arange(len(outputs_BK)),
        outputs_BK,
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        classes=CLASSES,
    )
    assert [item["label"] for item in answer["segments"]] == list(CLASSES)
    assert answer["num_windows"] == len(outputs_BK) == 39
    assert answer["duration_s"] == pytest.approx(20.1)
    for found, segment in zip(answer["segments"], expected, strict=True):
        assert found["label"] == segment.label
        assert (found["start_s"], found["end_s"]) == (segment.start_s, segment.end_s)
        assert found["probability"] == pytest.approx(segment.probability, abs=1e-5)
    found_BK = [[item["probabilities"][name] for name in CLASSES] for item in answer["windows"]]
    np.testing.assert_allclose(found_BK, outputs_BK, atol=1e-5)


def test_a_parquet_and_a_gzipped_csv_are_answered_as_the_csv(
    served: FileServer, tmp_path: Path
) -> None:
    served.release()
    values_TC = columns_of(LABELS)
    content = csv_of(values_TC, rate_hz=RATE_HZ)
    sink = io.BytesIO()
    table = {name: values_TC[:, index] for index, name in enumerate(CHANNELS)}
    pq.write_table(pa.table({"time_s": np.arange(len(values_TC)) / RATE_HZ, **table}), sink)
    expected = served.answer(content, "text/csv")
    assert served.answer(sink.getvalue(), "application/vnd.apache.parquet") == expected
    form = {"file": ("walk.CSV.gz", gzip.compress(content))}
    assert served.answer(files=form) == expected


def test_without_times_the_rows_come_at_the_rate_of_the_model_or_as_the_query_says(
    served: FileServer,
) -> None:
    served.release()
    values_TC = columns_of(LABELS)
    at_10 = served.answer(csv_of(values_TC), "text/csv")
    assert at_10["duration_s"] == pytest.approx(20.1)
    doubled = csv_of(np.repeat(values_TC, 2, axis=0))
    at_20 = served.answer(doubled, "text/csv", "?rate_hz=20")
    assert at_20["duration_s"] == pytest.approx(20.1)
    for one, other in zip(at_10["segments"], at_20["segments"], strict=True):
        assert one["label"] == other["label"]
        assert one["start_s"] == pytest.approx(other["start_s"], abs=0.5)


def test_units_are_converted_and_columns_may_stand_in_any_order_among_others(
    served: FileServer,
) -> None:
    served.release()
    values_TC = columns_of(LABELS)
    expected = served.answer(csv_of(values_TC, rate_hz=RATE_HZ), "text/csv", "?windows=true")
    names = ("acc_w", "note", "acc_y", "acc_x", "acc_z")
    in_g_TC = values_TC / STANDARD_GRAVITY_M_S2
    shuffled = np.column_stack([in_g_TC[:, 3], np.ones(201), in_g_TC[:, [1, 0, 2]]])
    query = "?windows=true&channels=acc_x,acc_y,acc_z,acc_w&units=g,g,g,g"
    answer = served.answer(csv_of(shuffled, ",".join(names), RATE_HZ), "text/csv", query)
    assert answer["segments"] == expected["segments"]


def test_a_unit_in_the_header_goes_before_the_model_s(served: FileServer) -> None:
    channels = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")
    signature = small_signature(channels=channels, name="imu")
    served.release(graph=small_graph((0.0,) * 3, num_channels=3), signature=signature)
    values_TC = columns_of(LABELS)[:, :3]
    expected = served.answer(csv_of(values_TC, "acc_x,acc_y,acc_z"), "text/csv")
    in_g_TC = values_TC / STANDARD_GRAVITY_M_S2
    assert served.answer(csv_of(in_g_TC, "ax [g],ay [g],az [g]"), "text/csv") == expected


def test_a_gap_parts_the_timeline_and_stays_one(served: FileServer) -> None:
    served.release()
    rows = csv_of(columns_of([0] * 100), rate_hz=RATE_HZ).split(b"\n")
    answer = served.answer(b"\n".join(rows[:41] + rows[71:]), "text/csv")
    spans = [(item["start_s"], item["end_s"]) for item in answer["segments"]]
    assert spans == [(0.0, 4.0), (7.0, 10.0)]


def test_what_is_cut_off_is_answered_up_to_there_and_said(served: FileServer) -> None:
    served.release()
    content = csv_of(columns_of([1] * 50), rate_hz=RATE_HZ)
    answer = served.answer(content[:-9], "text/csv")
    assert [item["label"] for item in answer["segments"]] == [CLASSES[1]]
    assert any("breaks off" in line for line in answer["repairs"])


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_a_model_of_whole_movements_gives_one_segment(served: FileServer, fit: str) -> None:
    served.release(signature=small_signature(span="annotation", fit=fit))
    answer = served.answer(csv_of(columns_of([1] * 57)), "text/csv")
    (segment,) = answer["segments"]
    assert segment["label"] == CLASSES[1]
    assert set(segment["probabilities"]) == set(CLASSES)
    assert answer["num_windows"] == 1
    gap = csv_of(columns_of([1] * 57), rate_hz=RATE_HZ).split(b"\n")
    content = b"\n".join(gap[:20] + gap[40:])
    assert "without a gap" in served.problem(422, content, "text/csv")


def test_a_model_of_values_gives_a_series(served: FileServer) -> None:
    output = ValueOutput(of="speed", unit="m/s")
    inputs = heart_signature().inputs
    signature = Signature(task="regress", inputs=inputs, outputs=(output,))
    served.release(graph=mean_graph(10), signature=signature)
    bpm_T = np.linspace(100, 160, 61)
    content = csv_of(bpm_T[:, None], "heart_rate", rate_hz=1.0)
    answer = served.answer(content, "text/csv")
    assert (answer["of"], answer["unit"]) == ("speed", "m/s")
    assert "segments" not in answer
    expected = windows_of(bpm_T[:, None]).mean(axis=1)[:, 0]
    np.testing.assert_allclose([item["value"] for item in answer["series"]], expected, rtol=1e-6)
    assert [item["start_s"] for item in answer["series"]] == [5.0 * i for i in range(11)]


def test_a_model_of_quantiles_gives_them_by_name(served: FileServer) -> None:
    output = QuantilesOutput(of="heart_rate", unit="bpm", horizon_s=60.0, quantiles=(0.1, 0.9))
    inputs = heart_signature().inputs
    signature = Signature(task="forecast", inputs=inputs, outputs=(output,))
    served.release(graph=mean_graph(10, 2), signature=signature)
    answer = served.answer(csv_of(np.full((10, 1), 120.0), "heart_rate", 1.0), "text/csv")
    assert answer["horizon_s"] == 60.0
    assert answer["series"] == [
        {"start_s": 0.0, "end_s": 10.0, "quantiles": {"0.1": 120.0, "0.9": 120.0}}
    ]


GOOD = csv_of(columns_of([0] * 30), rate_hz=RATE_HZ)


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "empty (0 bytes)"),
        (b"time_s,acc_x,acc_y,acc_z,acc_w\n", 400, "has a header but no rows"),
        (b"1,2,3\n4,5,6\n", 400, "has no header"),
        (b"\0" * 500, 400, "not text"),
        (GOOD.replace(b"acc_z", b"gyr_z (deg/s)"), 422, "lacks the channel(s) acc_z; it has"),
        (csv_of(columns_of([0] * 9), rate_hz=RATE_HZ), 422, "one window of 1 s needs 10 samples"),
        (csv_of(columns_of([0] * 90), rate_hz=5000.0), 422, "too far from the model's 10 Hz"),
        (GOOD.replace(b"acc_x", b"acc_x (bpm)"), 400, "'bpm' is no unit of acceleration"),
        (b"squats on Monday\n" * 9, 400, "no column of numbers"),
        (GOOD.replace(b"acc_x", b"acc_x (g)"), 422, "call columns as the model does"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    served: FileServer, content: bytes, status: int, says: str
) -> None:
    served.release()
    detail = served.problem(status, content, "text/csv")
    assert says in detail, detail


def test_the_channels_of_a_file_that_lacks_one_are_named(served: FileServer) -> None:
    served.release()
    content = GOOD.replace(b"acc_z", b"heart_rate")
    assert "heart_rate" in served.problem(422, content, "text/csv")


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("?rate=5", 400, "unknown query parameter 'rate'"),
        ("?windows=yes", 400, "say true or false"),
        ("?windows=true&windows=true", 400, "twice"),
        ("?channels=acc_x,acc_y,acc_z", 422, "acc_w is missing"),
        ("?units=g,g,g,bpm", 422, "cannot be converted from 'bpm'"),
        ("?video_offset_s=nan", 400, "within a day"),
    ],
)
def test_a_query_that_cannot_be_used_says_why(
    served: FileServer, query: str, status: int, says: str
) -> None:
    served.release()
    assert says in served.problem(status, GOOD, "text/csv", query)


def test_limits_on_time_and_windows_are_kept(served: FileServer) -> None:
    served.release()
    long = csv_of(columns_of([0] * 400), rate_hz=RATE_HZ)
    served.set_files(max_duration_s=30)
    assert "longer than 30 s" in served.problem(413, long, "text/csv")
    served.set_files(max_windows=5)
    assert "more than 5 windows" in served.problem(413, long, "text/csv")
    served.set_files()
    assert served.answer(long, "text/csv")["num_windows"] == 79


def test_a_parquet_that_unpacks_to_too_much_is_refused(served: FileServer) -> None:
    """A few kilobytes of one value, repeated a hundred million times, in one row group."""
    served.release()
    served.set_files(max_memory_mib=300)
    sink = io.BytesIO()
    text = pa.array(["x" * 1_000_000] * 2000).dictionary_encode()
    times = pa.array(np.arange(2000) / RATE_HZ)
    pq.write_table(pa.table({"time_s": times, "note": text.cast(pa.large_string())}), sink)
    content = sink.getvalue()
    assert len(content) < 2**20
    detail = served.problem(413, content, "application/vnd.apache.parquet")
    assert "300 MiB of memory" in detail
