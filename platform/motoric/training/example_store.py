"""Examples in files of a node's scratch folder: made once a node, mapped by all its workers.

In: a recipe and its dataset, read one recording after the other. Out: the parts of a split whose
windows and clips are arrays mapped from .npy files, with the values that they have in memory. What
is small, such as targets and starts, is in memory. Where the training part streams, its windows are
not written, but a sample of them and what is fitted to all.

    <scratch>/motoric-examples-<user>/<key>/index.npz        targets, subjects, starts of all
    <scratch>/motoric-examples-<user>/<key>/<part>-<input>.npy
    <scratch>/motoric-examples-<user>/<key>/statistics.json  of a training part that streams
    <scratch>/motoric-examples-<user>/<key>.lock             held by whoever makes or maps them

A process holds what it maps until it ends. Whoever makes new files removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import PlatformError, RecipeError
from motoric.data.dataset import Dataset
from motoric.training.data_plan import TIMES_ON_DISK, estimated_bytes, lacking_room, scratch
from motoric.training.examples import Examples, Rows, join
from motoric.training.inputs import ModelInputs
from motoric.training.loading import load_by_recording
from motoric.training.recipe import Recipe
from motoric.training.stream_store import SAMPLE, STATISTICS, sample_rows, write_streamed
from motoric.training.window_statistics import WindowStatistics

logger = logging.getLogger(__name__)

Divide = Callable[[Examples], Rows]

PARTS = ("train", "validation", "test")
_VERSION = 2
_INPUTS = ("windows_BTC", "clips_BTHWC")
_COLUMNS = ("present_B2", "targets_B", "persistence_B", "start_s_B", "end_s_B")
_NAMES = ("subjects", "recording_ids")
# What decides which examples there are; the rest of a recipe changes none.
_KEYS = ("task", "target", "labels", "horizon_s", "where", "split", "window", "clip")
_CHUNK_BYTES = 32 * 2**20
# Open while the process lives: a shared lock keeps others from removing what it maps.
_held: dict[Path, IO[str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredParts:
    """Examples of a store.

    Attributes:
        index: Of all examples, without windows and clips.
        parts: Training, validation and test.
        sample: Of the training part, where that streams.
        statistics: Of its windows then.
    """

    index: Examples
    parts: tuple[Examples, Examples, Examples]
    sample: Examples | None = None
    statistics: WindowStatistics | None = None


def stored_parts(
    recipe: Recipe,
    dataset: Dataset,
    inputs: ModelInputs,
    divide: Divide,
    *,
    streams: bool = False,
) -> StoredParts:
    """Map the examples of a recipe; write them first if no process of this node has.

    Args:
        recipe: The recipe.
        dataset: Its dataset.
        inputs: From both.
        divide: Given the index, says which examples are in which part.
        streams: The windows of the training part are left out.

    Raises:
        DatasetError: There is not one example, or a video cannot be read.
        RecipeError: The disk has no room.
        PlatformError: The scratch folder is another user's.
    """
    folder = _own_folder() / _key(recipe, dataset, "stream" if streams else "mapped")
    write = write_streamed if streams else _write_mapped
    if folder not in _held:
        _held[folder] = _hold(
            folder, lambda: _make(folder, lambda at: write(at, recipe, dataset, inputs, divide))
        )
    index = _read_index(folder)
    rows = divide(index)
    train, validation, test = (
        _with_inputs(index.take(chosen), folder, name)
        for name, chosen in zip(PARTS, rows, strict=True)
    )
    parts = (train, validation, test)
    if not streams:
        return StoredParts(index=index, parts=parts)
    return StoredParts(
        index=index,
        parts=parts,
        sample=_with_inputs(index.take(sample_rows(index, rows[0])), folder, SAMPLE),
        statistics=WindowStatistics.model_validate_json((folder / STATISTICS).read_text()),
    )


def _hold(folder: Path, make: Callable[[], None]) -> IO[str]:
    """Make a folder unless it is there; the lock that is returned keeps it."""
    lock = folder.with_suffix(".lock").open("a")
    try:
        while True:
            # Shared first: others map what is there, and hold it for as long as they live.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.is_dir():
                return lock
            # The lock is given up for a moment here, and another may make the folder then.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _remove_unused(folder)
                make()
    except BaseException:
        lock.close()
        raise


def _make(folder: Path, write: Callable[[Path], Examples]) -> None:
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)  # of one that was ended while it wrote
    making.mkdir()
    try:
        index = write(making)
        _write_index(making, index)
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    logger.info("%d examples are written to %s", len(index), folder)


def _write_mapped(
    folder: Path, recipe: Recipe, dataset: Dataset, inputs: ModelInputs, divide: Divide
) -> Examples:
    """Write all examples, by parts; returns the index."""
    if problem := lacking_room(TIMES_ON_DISK * estimated_bytes(dataset, inputs)):
        raise RecipeError(
            f"train.data is mapped, but {problem}: raise window.hop_s, lower clip.height,"
            " clip.width or clip.num_frames, free the disk, or set TMPDIR to a larger one"
        )
    index, shapes = _write_all(folder, load_by_recording(recipe, dataset, inputs))
    rows = divide(index)
    for name, (dtype, shape) in shapes.items():
        whole = np.memmap(folder / name, dtype, "r", shape=(len(index), *shape))
        for part, chosen in zip(PARTS, rows, strict=True):
            _copy(whole, chosen, folder / f"{part}-{name}.npy")
        del whole
        (folder / name).unlink()
    return index


def _write_all(
    folder: Path, recordings: Iterable[Examples]
) -> tuple[Examples, dict[str, tuple[np.dtype[Any], tuple[int, ...]]]]:
    """Append each recording's inputs to one file an input; returns the index, types and shapes."""
    indices: list[Examples] = []
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    files: dict[str, IO[bytes]] = {}
    try:
        for examples in recordings:
            for name in _INPUTS:
                values = getattr(examples, name)
                if values is None:
                    continue
                if name not in files:
                    files[name] = (folder / name).open("wb")
                    shapes[name] = (values.dtype, values.shape[1:])
                files[name].write(np.ascontiguousarray(values).data)
            indices.append(replace(examples, windows_BTC=None, clips_BTHWC=None))
    finally:
        for file in files.values():
            file.close()
    return join(indices), shapes


def _copy(whole: NDArray[Any], rows: NDArray[np.int64], path: Path) -> None:
    """Some rows of one array to a file of their own, in bounded memory."""
    if len(rows) == 0:
        np.save(path, np.empty((0, *whole.shape[1:]), dtype=whole.dtype))
        return
    own = np.lib.format.open_memmap(path, "w+", whole.dtype, (len(rows), *whole.shape[1:]))
    step = max(1, _CHUNK_BYTES // max(1, whole[:1].nbytes))
    for first in range(0, len(rows), step):
        own[first : first + step] = whole[rows[first : first + step]]
    own.flush()


def _with_inputs(part: Examples, folder: Path, name: str) -> Examples:
    found: dict[str, Any] = {}
    for item in _INPUTS:
        path = folder / f"{name}-{item}.npy"
        if path.is_file():
            # A plain array on the mapped memory: what is chosen from it is copied, and no more.
            found[item] = np.asarray(np.load(path, mmap_mode="r" if len(part) else None))
    return replace(part, **found)


def _write_index(folder: Path, index: Examples) -> None:
    columns: dict[str, Any] = {name: getattr(index, name) for name in _COLUMNS}
    for name in _NAMES:
        # There are far fewer names than examples.
        known, columns[name] = np.unique(getattr(index, name), return_inverse=True)
        columns[f"{name}_known"] = known.astype(np.str_)
    found = {name: value for name, value in columns.items() if value is not None}
    classes = np.array(index.classes, dtype=np.str_)
    np.savez(folder / "index.npz", allow_pickle=False, classes=classes, **found)


def _read_index(folder: Path) -> Examples:
    with np.load(folder / "index.npz", allow_pickle=False) as found:
        columns: dict[str, Any] = {name: found.get(name) for name in _COLUMNS}
        for name in _NAMES:
            known = found[f"{name}_known"].tolist()
            columns[name] = tuple(known[number] for number in found[name])
        classes = tuple(found["classes"].tolist())
    return Examples(windows_BTC=None, clips_BTHWC=None, classes=classes, **columns)


def _key(recipe: Recipe, dataset: Dataset, way: str) -> str:
    content = recipe.model_dump(mode="json")
    chosen = {key: content[key] for key in (*_KEYS, "preprocessing")}
    identity = [_VERSION, way, dataset.card.content_digest, chosen]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _own_folder() -> Path:
    folder = scratch() / f"motoric-examples-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or folder.is_symlink():
        raise PlatformError(f"{folder} is not this user's: remove it, or set TMPDIR")
    return folder


def _remove_unused(but: Path) -> None:
    """Remove what no process makes or maps."""
    for path in but.parent.glob("*.lock"):
        if path.stem == but.name:
            continue
        with path.open("a") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for suffix in ("", ".making"):
                shutil.rmtree(path.with_suffix(suffix), ignore_errors=True)
