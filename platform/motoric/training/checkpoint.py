"""Checkpoints of a run: what they hold, and how they lie under the run's storage URI.

In: the state of a run, from its first worker. Out: the newest state that is whole. A checkpoint is
safetensors files and one JSON document that names them with their digests. That document is
written last and at once, so that a checkpoint is there as a whole or not at all; what it says of
itself is hashed too. Files are shared: the best weights are written once.

    <run>/checkpoints/<epoch>-<drawn>-<id>.json         the checkpoint
    <run>/checkpoints/<epoch>-<drawn>-<id>.<part>.safetensors   weights, optimiser, random, kept
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from motoric.core import storage
from motoric.core.errors import CheckpointError, MotoricError, NotFoundError, PlatformError
from motoric.data.dataset import Dataset
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.run import State

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
_VERSION = 1
# The newest may be damaged, so the one before stays.
_NUM_KEPT = 2
_PARTS = ("weights", "optimiser", "random", "kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands; small, and JSON.

    Attributes:
        epoch: That goes on, from 0.
        num_drawn: Examples of it that all workers together have drawn; 0 between epochs.
        losses: Of its steps so far.
        elapsed_s: That its steps took so far.
        waited_s: Of these, for data.
        best_loss: Lowest validation loss so far; infinite before the first.
        stale: Epochs since then.
        num_workers: That the random states are of.
        streams: The training windows came in a stream, so in another order than the sampler's.
        is_finished: Nothing is left to train.
        history: Reports of the epochs before.
    """

    epoch: int = 0
    num_drawn: int = 0
    losses: tuple[float, ...] = ()
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    best_loss: float = math.inf
    stale: int = 0
    num_workers: int = 1
    streams: bool = False
    is_finished: bool = False
    history: tuple[EpochReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a run goes on from.

    Attributes:
        position: Where it stands.
        weights: Of the whole network.
        kept: The weights to keep so far (`stopping.keep`); None where `weights` are these.
        optimiser: Its state by parameter and entry; empty for networks that are solved.
        random: State of each worker's generators, by name and one row a worker, within an epoch.
    """

    position: Position
    weights: State
    kept: State | None = None
    optimiser: State = field(default_factory=dict)
    random: State = field(default_factory=dict)

    @property
    def to_keep(self) -> State:
        """The weights that the run would end with now."""
        return self.weights if self.kept is None else self.kept


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run_uri: Folder of the run.
        identity: What a checkpoint must be of, such as the recipe's content and the dataset's
            digest: JSON, two levels deep.
        before_writing: Called before each checkpoint is written; what it raises, `wait` raises.
    """

    def __init__(
        self,
        run_uri: str,
        identity: Mapping[str, Any],
        *,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = storage.join(run_uri, FOLDER)
        self._identity = json.loads(json.dumps(identity))
        self._before_writing = before_writing
        self._writing: threading.Thread | None = None
        self._failure: Exception | None = None
        self._kept: tuple[State, dict[str, Any]] | None = None

    def names(self) -> list[str]:
        """Of all checkpoints, the newest first, damaged ones too."""
        found = storage.list_names(self._folder)
        return sorted((name for name in found if name.endswith(".json")), reverse=True)

    def newest(self) -> str | None:
        """Name of the newest checkpoint that is whole; None where there are none at all.

        Raises:
            CheckpointError: All are damaged, or the newest is of another recipe or other data.
        """
        damages = []
        for name in self.names():
            try:
                self.read(name)
            except _DamagedError as error:
                damages.append(error.message)
                logger.warning("%s: going back to the checkpoint before", error.message)
                continue
            return name
        if damages:
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read: {'; '.join(damages)}. Train anew"
            )
        return None

    def read(self, name: str) -> Checkpoint:
        """Read one checkpoint.

        Raises:
            CheckpointError: It is damaged, or of another recipe or other data.
        """
        uri = storage.join(self._folder, name)
        document = _document(uri)
        self._check_identity(uri, document["identity"])
        parts = {
            part: _tensors(storage.join(self._folder, entry["name"]), entry["sha256"])
            for part, entry in document["files"].items()
        }
        content = document["position"]
        position = Position(
            **content
            | {
                "losses": tuple(content["losses"]),
                "best_loss": math.inf if content["best_loss"] is None else content["best_loss"],
                "history": tuple(EpochReport(**row) for row in content["history"]),
            }
        )
        found = Checkpoint(
            position=position,
            weights=parts["weights"],
            kept=parts.get("kept"),
            optimiser=parts.get("optimiser", {}),
            random=parts.get("random", {}),
        )
        files = document["files"]
        self._kept = (found.to_keep, files.get("kept", files["weights"]))
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint in the background, after the one before has been written.

        Args:
            checkpoint: Tensors that nothing changes any more.

        Raises:
            MotoricError: As `wait`, of the one before.
        """
        self.wait()

        def write() -> None:
            try:
                self._before_writing()
                self._write(checkpoint)
            except Exception as error:  # noqa: BLE001 - raised again by the next `wait`
                self._failure = error

        self._writing = threading.Thread(target=write, name="motoric-checkpoint")
        self._writing.start()

    def wait(self) -> None:
        """Wait until what was saved is written.

        Raises:
            PlatformError: It could not be.
            MotoricError: As `before_writing` raised it.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        failure, self._failure = self._failure, None
        if isinstance(failure, MotoricError):
            raise failure
        if failure is not None:
            raise PlatformError(
                f"a checkpoint cannot be written to {self._folder}: {failure}"
            ) from failure

    def _write(self, checkpoint: Checkpoint) -> None:
        position = checkpoint.position
        base = f"{position.epoch:06d}-{position.num_drawn:010d}-{uuid.uuid4().hex[:8]}"
        files: dict[str, dict[str, Any]] = {}
        for part in _PARTS:
            tensors = getattr(checkpoint, part)
            if not tensors:
                continue
            if self._kept is not None and tensors is self._kept[0]:
                files[part] = self._kept[1]  # written before: best weights stay the same for long
                continue
            content = save(tensors)
            name = f"{base}.{part}.safetensors"
            storage.write_bytes(storage.join(self._folder, name), content)
            files[part] = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
        self._kept = (checkpoint.to_keep, files.get("kept", files["weights"]))
        row = asdict(replace(position, history=()))
        row["history"] = [asdict(item) for item in position.history]
        row["best_loss"] = None if math.isinf(position.best_loss) else position.best_loss
        document = {
            "version": _VERSION,
            "identity": self._identity,
            "position": row,
            "files": files,
        }
        document["sha256"] = _digest(document)
        storage.write_bytes(
            storage.join(self._folder, f"{base}.json"), json.dumps(document, indent=1).encode()
        )
        self._prune()

    def _prune(self) -> None:
        """Remove what no kept checkpoint refers to."""
        wanted: set[str] = set()
        for name in self.names()[:_NUM_KEPT]:
            wanted.add(name)
            try:
                document = _document(storage.join(self._folder, name))
            except _DamagedError:
                continue
            wanted.update(entry["name"] for entry in document["files"].values())
        others = [name for name in storage.list_names(self._folder) if name not in wanted]
        # Documents first: one whose files are gone would look damaged.
        for name in sorted(others, key=lambda name: not name.endswith(".json")):
            storage.remove(storage.join(self._folder, name))

    def _check_identity(self, uri: str, found: dict[str, Any]) -> None:
        differing = _differences(found, self._identity)
        if differing:
            raise CheckpointError(
                f"{uri} is of another run: {'; '.join(differing)}. A run goes on with the recipe"
                " and the data it began with; only resources and strategy may change"
            )


def identity_of(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What the checkpoints of a run must be of."""
    return {"recipe": recipe.training_content, "dataset": dataset.card.content_digest}


class _DamagedError(CheckpointError):
    """A checkpoint, or one of its files, is not what was written."""


def _document(uri: str) -> dict[str, Any]:
    try:
        document = json.loads(storage.read_bytes(uri))
        is_whole = document.pop("sha256") == _digest(document)
    except (ValueError, KeyError, AttributeError, NotFoundError) as error:
        raise _DamagedError(f"{uri} is damaged ({type(error).__name__})") from error
    if not is_whole:
        raise _DamagedError(f"{uri} is damaged: its digest differs")
    if document["version"] != _VERSION:
        raise CheckpointError(
            f"{uri} has version {document['version']}, this platform reads {_VERSION}: train anew"
        )
    found: dict[str, Any] = document
    return found


def _tensors(uri: str, sha256: str) -> State:
    try:
        content = storage.read_bytes(uri)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise _DamagedError(f"{uri} is damaged: its digest differs")
        return load(content)
    except (NotFoundError, SafetensorError) as error:
        raise _DamagedError(f"{uri} is damaged ({type(error).__name__})") from error


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _differences(found: Any, wanted: Any, place: str = "") -> list[str]:
    """Where two JSON values differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for key in sorted({*found, *wanted})
            for line in _differences(
                found.get(key), wanted.get(key), f"{place}.{key}" if place else key
            )
        ]
    return [] if found == wanted else [f"{place} is {found!r} there and {wanted!r} here"]
