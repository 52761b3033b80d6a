"""Sensor files and videos that are broken the way real ones are, and what ingest makes of each.

In: a path to write to. Out: `CASES`, by a short name: how to write the file, and whether it is
rejected, skipped, or kept with a flag. `write_good` writes the sound files that lie beside them.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fit_writer import SETTINGS, file_id, fit_file, message, record
from videos import (
    HEIGHT,
    RATE_HZ,
    WIDTH,
    Shape,
    cut,
    damage_packets,
    write_sound,
    write_video,
)

START_S = 1_714_557_600  # 2024-05-01T10:00:00Z
# The sound files and how many rows or frames each has.
GOOD = {"good.csv": 100, "good.fit": 40, "good.mp4": 12}
_EMPTY = r"empty \(0 bytes\)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One file.

    Attributes:
        name: Of the file, whose ending chooses its reader.
        write: Writes it.
        outcome: `rejected`, `skipped`, or `kept`.
        reason: Regular expression of the reason in quarantine.
        flags: Kinds of all flags of a kept file.
        is_repair: A kept file was damaged, so that `strict` stops at it.
        num_samples: Rows of the first stream, or frames, of a kept file.
    """

    name: str
    write: Callable[[Path], object]
    outcome: str = "kept"
    reason: str = ""
    flags: frozenset[str] = frozenset()
    is_repair: bool = False
    num_samples: int = 0

    @property
    def stops_strict(self) -> bool:
        return self.outcome == "rejected" or self.is_repair


def rejected(name: str, reason: str, write: Callable[[Path], object]) -> Case:
    return Case(name=name, write=write, outcome="rejected", reason=reason)


def skipped(name: str, reason: str, write: Callable[[Path], object]) -> Case:
    return Case(name=name, write=write, outcome="skipped", reason=reason)


def repaired(name: str, num_samples: int, flags: str, write: Callable[[Path], object]) -> Case:
    kinds = frozenset(flags.split())
    return Case(name=name, write=write, flags=kinds, is_repair=True, num_samples=num_samples)


def remarked(name: str, num_samples: int, flags: str, write: Callable[[Path], object]) -> Case:
    return Case(name=name, write=write, flags=frozenset(flags.split()), num_samples=num_samples)


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


# FIT


def records(num_records: int, first_s: int = START_S) -> list[bytes]:
    return [record(first_s + i, heart_rate=100 + i % 30) for i in range(num_records)]


RIDE = fit_file(file_id(), *records(40))
# Where the record after the 25th begins.
_BREAK = 14 + len(file_id()) + sum(map(len, records(25)))
_WRONG_CRC = RIDE[:-2] + bytes([RIDE[-2] ^ 0xFF, RIDE[-1]])
_SETTINGS = fit_file(file_id(SETTINGS), message(SETTINGS, []))
_FIT_BACK = fit_file(file_id(), *records(40), *records(40, START_S - 600))

FIT = {
    "fit cut": repaired("cut.fit", 25, "truncated", holding(RIDE[: _BREAK + 7])),
    "fit corrupt": repaired(
        "corrupt.fit", 25, "truncated", holding(RIDE[:_BREAK] + b"\xff" * 60 + RIDE[_BREAK + 60 :])
    ),
    "fit wrong crc": repaired("crc.fit", 40, "wrong_crc", holding(_WRONG_CRC)),
    "fit clock back": repaired("back.fit", 80, "clock_jump", holding(_FIT_BACK)),
    "fit settings": skipped(
        "settings.fit", "is a FIT settings file and holds no samples", holding(_SETTINGS)
    ),
    "fit without records": rejected(
        "none.fit", "activity without a single record", holding(fit_file(file_id()))
    ),
    "fit empty": rejected("empty.fit", _EMPTY, holding(b"")),
    "fit header only": rejected("header.fit", "is not a FIT file that can be", holding(RIDE[:14])),
    "fit of a few bytes": rejected("few.fit", r"too short .*\(9 bytes\)", holding(RIDE[:9])),
    "fit text": rejected("text.fit", "is not a FIT file", holding(b"squats on Monday\n" * 9)),
}

# GPX

_OPEN = '<gpx version="1.1" creator="tests" xmlns="http://www.topografix.com/GPX/1/1"><trk>'


def point(second: int, *, has_time: bool = True) -> str:
    time = f"<time>2024-05-01T10:00:{second:02d}Z</time>" if has_time else ""
    return f'<trkpt lat="48.{second:02d}" lon="11.5"><ele>500</ele>{time}</trkpt>'


def points(seconds: Iterable[int], *, has_time: bool = True) -> str:
    return "".join(point(second, has_time=has_time) for second in seconds)


def track(*segments: str, name: str = "Lauf über die Brücke", declared: str = "") -> str:
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    inner = "".join(f"<trkseg>{one}</trkseg>" for one in segments)
    return f"{head}{_OPEN}<name>{name}</name>{inner}</trk></gpx>"


_RUN = track(points(range(30)))
_JUMPED = points(range(30)) + points(range(30)).replace("T10:00", "T09:00")
_SWELLING = '<!DOCTYPE gpx [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'

GPX = {
    "gpx without times": rejected(
        "untimed.gpx",
        "has 20 points but no times: export",
        holding(track(points(range(20), has_time=False)).encode()),
    ),
    "gpx some times": repaired(
        "some-times.gpx",
        20,
        "no_time",
        holding(track(points(range(20)) + points(range(5), has_time=False)).encode()),
    ),
    "gpx empty segment": remarked(
        "segment.gpx",
        20,
        "empty_segment",
        holding(track(points(range(10)), "", points(range(10, 20))).encode()),
    ),
    "gpx only an empty segment": skipped(
        "nothing.gpx", "without track points", holding(track("").encode())
    ),
    "gpx bom": remarked("bom.gpx", 30, "", holding(b"\xef\xbb\xbf" + _RUN.encode())),
    "gpx utf-16": remarked(
        "utf16.gpx",
        30,
        "",
        holding(track(points(range(30)), declared="UTF-16").encode("utf-16")),
    ),
    "gpx cp1252": repaired("cp1252.gpx", 30, "encoding", holding(_RUN.encode("cp1252"))),
    "gpx cut": repaired(
        "cut.gpx", 20, "truncated", holding(_RUN[: _RUN.index('<trkpt lat="48.20"') + 30].encode())
    ),
    "gpx clock back": repaired("back.gpx", 60, "clock_jump", holding(track(_JUMPED).encode())),
    "gpx entities": rejected(
        "entities.gpx", "declares XML entities", holding((_SWELLING + _RUN).encode())
    ),
    "gpx login page": rejected(
        "page.gpx", "is not (sound )?GPX", holding(b"<html><body>Please log in<br></body></html>")
    ),
    "gpx empty": rejected("empty.gpx", _EMPTY, holding(b"")),
}

# Tables


def table(
    times_s: Iterable[float], header: str = "time_s,acc_x (m/s^2),acc_y (m/s^2)", **cells: str
) -> str:
    """Two waves as CSV; `cells` replaces values of the first, by their row as in `row_7`."""
    rows = [
        f"{time_s:.3f},{cells.get(f'row_{i}', f'{np.sin(time_s):.4f}')},{np.cos(time_s):.4f}"
        for i, time_s in enumerate(times_s)
    ]
    return "\n".join([header, *rows]) + "\n"


def even(num_rows: int, rate_hz: float = 50.0, start_s: float = 0.0) -> list[float]:
    return [start_s + i / rate_hz for i in range(num_rows)]


_SLOWER = even(3000) + even(1500, 25.0, 60.0)
_BACK = even(100, start_s=500.0) + even(100, start_s=20.0)
_PLAIN = table(even(100))
# Stored, not deflated, so that it is known which row the cut meets: the one after the 40th.
_GZIP_CUT = gzip.compress(_PLAIN.encode(), compresslevel=0, mtime=0)[
    : 15 + len(table(even(40)).encode()) + 5
]
_UNTIMED = "time_s,acc_x\n" + ",1.0\n" * 30


def _write_npy_of_objects(path: Path) -> None:
    np.save(path, np.array([{"acc_x": 1.0}], dtype=object), allow_pickle=True)


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"time_s": even(500), "acc_x": even(500)}), sink)
    return sink.getvalue()


def _npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, time_s=even(200), acc_x=even(200))
    return sink.getvalue()


TABLES = {
    "csv utf-16": remarked("utf16.csv", 100, "", holding(_PLAIN.encode("utf-16"))),
    "csv utf-16 without bom": rejected(
        "no-bom.csv", "set sensors.encoding to utf-16-le", holding(_PLAIN.encode("utf-16-le"))
    ),
    "csv bom": remarked("bom.csv", 100, "", holding(_PLAIN.encode("utf-8-sig"))),
    "csv cp1252 header": remarked(
        "cp1252.csv",
        100,
        "encoding unknown_column",
        holding(table(even(100), "time_s,Höhe über Grund,acc_y (m/s^2)").encode("cp1252")),
    ),
    "csv nan": remarked(
        "nan.csv", 100, "missing", holding(table(even(100), row_7="NaN", row_8="").encode())
    ),
    "csv infinite": repaired(
        "infinite.csv",
        100,
        "not_finite missing",
        holding(table(even(100), row_7="inf", row_9="-Infinity").encode()),
    ),
    "csv clock back": repaired("back.csv", 200, "clock_jump", holding(table(_BACK).encode())),
    "csv rate change": remarked(
        "rate.csv", 4500, "rate_change gap", holding(table(_SLOWER).encode())
    ),
    "csv cut": repaired("cut.csv", 99, "truncated", holding(_PLAIN[:-11].encode())),
    "csv gzip cut": repaired("cut.csv.gz", 40, "truncated", holding(_GZIP_CUT)),
    "csv no gzip": rejected("plain.csv.gz", "not a sound gzip file", holding(_PLAIN.encode())),
    "csv empty": rejected("empty.csv", _EMPTY, holding(b"")),
    "csv header only": rejected(
        "header.csv", "has a header but no rows", holding(b"time_s,acc_x\n")
    ),
    "csv without header": rejected(
        "numbers.csv", "has no header", holding(_PLAIN.split("\n", 1)[1].encode())
    ),
    "csv without times": rejected("untimed.csv", "holds no times", holding(_UNTIMED.encode())),
    "npy of objects": rejected("objects.npy", "object|pickle", _write_npy_of_objects),
    "parquet cut": rejected("cut.parquet", "is not a Parquet file", holding(_parquet()[:-40])),
}

# Videos


def _write_without_frames(path: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()


def _write_latin_title(path: Path) -> None:
    """A title as older cameras write it; FFmpeg only writes UTF-8, so its bytes are changed."""
    write_video(path, num_frames=12, shape=Shape(title="Kür am Reck"))
    content = path.read_bytes()
    assert "Kür".encode() in content
    path.write_bytes(content.replace("Kür".encode(), b"K\xfc\xfcr"))


def _write_cut_behind_its_index(path: Path) -> None:
    """Cut in the midst of the frame after the 20th."""
    write_video(path, shape=Shape(has_index_first=True, b_frames=0))
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
        place = (packet.pos or 0) + packet.size // 2
    path.write_bytes(path.read_bytes()[:place])


VIDEOS = {
    "video latin title mp4": remarked("title.mp4", 12, "metadata_not_utf8", _write_latin_title),
    "video latin title mkv": remarked("title.mkv", 12, "metadata_not_utf8", _write_latin_title),
    "video cut": repaired("cut.mp4", 20, "truncated", _write_cut_behind_its_index),
    "video without index": rejected(
        "no-index.mp4",
        "before its index was written.*copy it again",
        lambda path: cut(write_video(path), 0.5),
    ),
    "video of junk": rejected(
        "junk.mp4",
        "not one of its frames decodes",
        lambda path: damage_packets(write_video(path), 0, 99),
    ),
    "video zero frames avi": rejected("none.avi", "not one frame", _write_without_frames),
    "video zero frames mp4": rejected("none.mp4", "no video stream|not one", _write_without_frames),
    "video audio only": rejected("sound.mp4", "has no video stream: audio only", write_sound),
    "video empty": rejected("empty.mp4", _EMPTY, holding(b"")),
    "video text": rejected("text.mov", "not a video that can be read", holding(b"squats\n" * 99)),
}

CASES = {**FIT, **GPX, **TABLES, **VIDEOS}


# Sound files of the formats that are parsed by libraries of others.
SOUND = {
    "plain.fit": RIDE,
    "plain.gpx": _RUN.encode(),
    "plain.csv": _PLAIN.encode(),
    "plain.csv.gz": gzip.compress(_PLAIN.encode(), mtime=0),
    "plain.parquet": _parquet(),
    "plain.npz": _npz(),
}


def write_good_table(folder: Path) -> None:
    (folder / "good.csv").write_text(_PLAIN)


def write_good(folder: Path) -> None:
    """One sound table, activity and video each."""
    write_good_table(folder)
    (folder / "good.fit").write_bytes(RIDE)
    write_video(folder / "good.mp4", num_frames=GOOD["good.mp4"])
