"""Reads the recordings of one group and writes them as one file; what a Ray Data task does.

In: a task of `plan`, as JSON. Out: what `commit` needs of each recording, as JSON. A recording that
cannot be read is rejected with its reason and stops nothing else. What a task finished is also
written down under the dataset, so that a run that was killed does not do it again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import posixpath
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from motoric.core import storage
from motoric.core.errors import (
    DatasetError,
    MotoricError,
    NoSamplesError,
    PlatformError,
    UnreadableError,
)
from motoric.data.ingest.assembly import Assembled, assemble
from motoric.data.ingest.samples import Notes
from motoric.data.ingest.source import RawRecording, Source, VideoInput
from motoric.data.recording import Annotation, Video
from motoric.data.tables import PartFile, recording_digest

logger = logging.getLogger(__name__)

UNFINISHED = "_unfinished"
VIDEOS = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """Writes groups of recordings.

    Args:
        source: Where recordings come from.
        dataset_uri: Where they go.
    """

    source: Source
    dataset_uri: str

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do one task: `{"task": JSON}` in, `{"result": JSON}` out.

        Raises:
            PlatformError: The storage failed: no input is to blame.
        """
        try:
            return {"result": self._do(json.loads(row["task"]))}
        except OSError as error:
            raise PlatformError(f"{self.dataset_uri}: the storage failed: {error}") from error

    def _do(self, task: dict[str, Any]) -> str:
        recordings: list[dict[str, Any]] = []
        quarantined: list[dict[str, str]] = []
        kept: list[str] = []
        with PartFile(self.dataset_uri) as part:
            for item in task["items"]:
                self._one(item, part, recordings, quarantined, kept)
            written = part.close()
        for about in recordings:
            about["part"] = written.path if written is not None and about["streams"] else None
        result = {
            "group": task["group"],
            "part": None if written is None else written.model_dump(mode="json"),
            "recordings": recordings,
            "quarantined": quarantined,
            "kept": kept,
        }
        content = json.dumps(result)
        if recordings:
            name = f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
            place = storage.join(self.dataset_uri, UNFINISHED, name)
            storage.write_bytes(place, content.encode())
        return content

    def _one(
        self,
        item: dict[str, Any],
        part: PartFile,
        recordings: list[dict[str, Any]],
        quarantined: list[dict[str, str]],
        kept: list[str],
    ) -> None:
        def reject(kind: str, reason: str) -> None:
            quarantined.append(
                {
                    "recording_id": item["recording_id"],
                    "source": item["place"],
                    "kind": kind,
                    "reason": reason,
                }
            )

        try:
            digest = self.source.digest(item["index"])
            if digest == item["known_digest"]:
                kept.append(item["recording_id"])
                return
            with self.source.open(item["index"]) as raw:
                about = self._write(raw, part)
        except (PlatformError, MemoryError):
            raise
        except NoSamplesError as error:
            reject("skipped", error.message)
        except MotoricError as error:
            reject("rejected", error.message)
        except (ValueError, OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and storage.is_failure(error):
                # Nothing is wrong with the file: leaving it out would lose it from the dataset.
                raise PlatformError(f"{item['place']}: the storage failed: {error}") from error
            reject("rejected", f"cannot be read: {error}")
        except Exception as error:
            # Parsers fail on broken files in ways of their own; one file must not stop the others.
            logger.exception("ingest of %s failed", item["place"])
            reject("rejected", f"cannot be read: {type(error).__name__}: {error}")
        else:
            recordings.append({**about, "source_digest": digest, "source": item["place"]})

    def _write(self, raw: RawRecording, part: PartFile) -> dict[str, Any]:
        energy, samples = None, raw.samples
        # What somebody measured is not estimated again.
        given = raw.video
        if given and given.offset_s is None and given.alignment.method == "correlation":
            from motoric.data.video.motion_tap import MotionTap

            energy = MotionTap(samples)
            samples = energy
        assembled = assemble(part, raw.recording_id, samples, raw.notes)
        video = None
        if raw.video is not None:
            try:
                video = self._video(raw, assembled)
            except UnreadableError as error:
                if not assembled.streams:
                    raise
                # The place of the recording is that of its sensors, which are sound.
                name = posixpath.basename(raw.video.uri)
                raise UnreadableError(f"its video {name}: {error.message}") from error
            if energy is not None:
                video = energy.align(video, raw.video.uri, raw.video.alignment, raw.notes)
            video = self._place(video, raw.video)
        if not assembled.streams and video is None:
            raise UnreadableError("holds no samples")
        return _about(raw, assembled, video)

    def _video(self, raw: RawRecording, assembled: Assembled) -> Video:
        from motoric.data.video.probe import probe

        assert raw.video is not None
        given = raw.video
        video = probe(
            given.uri,
            sha256=file_sha256(given.uri),
            num_bytes=storage.size(given.uri),
            notes=raw.notes,
        )
        if given.alignment.method == "none" or not assembled.streams:
            return video
        if given.offset_s is not None:
            return replace(video, offset_s=given.offset_s, offset_method="explicit")
        start_time_s = raw.start_time_s
        if start_time_s is None:
            start_time_s = assembled.start_time_s
        if given.start_time_s is not None and start_time_s is not None:
            offset_s = given.start_time_s - start_time_s
            return replace(video, offset_s=offset_s, offset_method="start_time")
        if given.alignment.method == "start_time":
            raw.notes.add(
                "not_aligned",
                "the start time of the sensors or of the video is unknown: give the manifest the"
                " columns start_time and video_start_time",
            )
        return video

    def _place(self, video: Video, given: VideoInput) -> Video:
        if not given.is_copied:
            return video
        suffix = given.uri.rpartition(".")[2].lower()
        path = f"{VIDEOS}/{video.sha256}.{suffix}"
        place = storage.join(self.dataset_uri, path)
        if not storage.exists(place):
            storage.copy_from(given.uri, place)
        return replace(video, uri=path)


def _about(raw: RawRecording, assembled: Assembled, video: Video | None) -> dict[str, Any]:
    start_s, end_s = _span(assembled, video)
    annotations = list(raw.annotations)
    if raw.label:
        annotations.insert(0, Annotation(start_s=start_s, end_s=end_s, label=raw.label))
    _check_annotations(annotations, start_s, end_s, raw.notes)
    streams = [asdict(item) for item in assembled.streams]
    digests = {item["stream"]: item.pop("digest") for item in streams}
    start_time_s = raw.start_time_s if raw.start_time_s is not None else assembled.start_time_s
    return {
        "recording_id": raw.recording_id,
        "subject": raw.subject,
        "duration_s": end_s - start_s,
        "start_time_s": start_time_s,
        "content_digest": recording_digest(
            recording_id=raw.recording_id,
            subject=raw.subject,
            annotations=[(item.start_s, item.end_s, item.label) for item in annotations],
            streams=digests,
            video=None if video is None else f"{video.sha256} {video.offset_s!r}",
        ),
        "streams": streams,
        "video": None if video is None else asdict(video),
        "flags": [asdict(flag) for flag in raw.notes.flags],
        "metadata": {**raw.notes.metadata, **raw.metadata},
        "annotations": [asdict(item) for item in annotations],
    }


def _span(assembled: Assembled, video: Video | None) -> tuple[float, float]:
    starts = [item.start_s for item in assembled.streams]
    ends = [item.end_s for item in assembled.streams]
    if video is not None:
        starts.append(video.offset_s)
        ends.append(video.offset_s + video.duration_s)
    return min(starts), max(ends)


def _check_annotations(
    annotations: list[Annotation], start_s: float, end_s: float, notes: Notes
) -> None:
    for item in annotations:
        if item.end_s <= start_s or item.start_s >= end_s:
            raise DatasetError(
                f"the annotation {item.label!r} from {item.start_s:g} to {item.end_s:g} s lies"
                f" outside the recording, which runs from {start_s:g} to {end_s:g} s"
            )
        if item.start_s < start_s - 1 or item.end_s > end_s + 1:
            notes.add(
                "annotation_overhang",
                f"the annotation {item.label!r} from {item.start_s:g} to {item.end_s:g} s reaches"
                f" beyond the recording, which runs from {start_s:g} to {end_s:g} s",
            )


def file_sha256(uri: str) -> str:
    """SHA-256 of a file; read once as long as its size and time of change stay."""
    return _file_sha256(uri, storage.fingerprint(uri))


@functools.lru_cache(maxsize=256)
def _file_sha256(uri: str, _fingerprint: tuple[int, int] | None) -> str:
    return storage.sha256(uri)
