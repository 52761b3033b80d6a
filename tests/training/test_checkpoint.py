from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from motoric.core.errors import CheckpointError, PlatformError
from motoric.training.checkpoint import FOLDER, Checkpoint, Checkpoints, Position
from motoric.training.progress import EpochReport

IDENTITY = {"recipe": {"name": "a", "epochs": 3}, "dataset": "d"}
REPORT = EpochReport(
    epoch=0,
    train_loss=0.1 + 0.2,
    validation_loss=1 / 3,
    validation_score=None,
    score_name="accuracy",
    learning_rate=1e-3,
    windows_per_s=9.0,
    is_best=True,
    system={"system/threads": 3.0},
)


def made(epoch: int, *, best: dict[str, torch.Tensor] | None = None) -> Checkpoint:
    return Checkpoint(
        position=Position(epoch=epoch, losses=(0.1, 1 / 3), best_loss=0.7, history=(REPORT,)),
        weights={"w": torch.full((3,), float(epoch)), "n": torch.tensor(epoch)},
        kept=best,
        optimiser={"w.exp_avg": torch.rand(3)},
        random={"torch": torch.arange(8, dtype=torch.uint8)[None]},
    )


def write(folder: Path, *checkpoints: Checkpoint) -> Checkpoints:
    opened = Checkpoints(str(folder), IDENTITY)
    for checkpoint in checkpoints:
        opened.save(checkpoint)
    opened.wait()
    return opened


def files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted((folder / FOLDER).glob(pattern))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoint = made(4, best={"w": torch.zeros(3)})
    opened = write(tmp_path, checkpoint)
    name = opened.newest()
    assert name is not None
    found = Checkpoints(str(tmp_path), IDENTITY).read(name)
    assert found.position == checkpoint.position
    for part in ("weights", "kept", "optimiser", "random"):
        expected, there = getattr(checkpoint, part), getattr(found, part)
        assert expected.keys() == there.keys()
        assert all(torch.equal(expected[key], there[key]) for key in expected)


def test_before_the_first_validation_the_best_loss_is_infinite(tmp_path: Path) -> None:
    opened = write(tmp_path, Checkpoint(position=Position(), weights={"w": torch.zeros(1)}))
    assert math.isinf(opened.read(opened.names()[0]).position.best_loss)


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(str(tmp_path / "none"), IDENTITY).newest() is None


def test_the_last_two_and_the_best_weights_are_kept_and_those_once(tmp_path: Path) -> None:
    first = made(1)
    later = [made(epoch, best=first.weights) for epoch in (2, 3, 4)]
    opened = write(tmp_path, first, *later)
    assert len(files(tmp_path, "*.json")) == 2
    weights = [path.name[:6] for path in files(tmp_path, "*.weights.safetensors")]
    assert weights == ["000001", "000003", "000004"]
    assert files(tmp_path, "*.kept.safetensors") == []
    found = opened.read(opened.names()[0])
    assert torch.equal(found.to_keep["w"], first.weights["w"])
    # A reader that goes on shares the file too.
    again = Checkpoints(str(tmp_path), IDENTITY)
    read = again.read(again.names()[0])
    again.save(made(5, best=read.to_keep))
    again.wait()
    assert files(tmp_path, "*.kept.safetensors") == []


@pytest.mark.parametrize("suffix", ["json", "weights.safetensors", "optimiser.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damage_is_noticed_and_the_checkpoint_before_is_taken(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    opened = write(tmp_path, made(1), made(2))
    newest = files(tmp_path, f"*.{suffix}")[-1]
    content = bytearray(newest.read_bytes())
    if damage == "gone":
        newest.unlink()
    elif damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        newest.write_bytes(content)
    name = opened.newest()
    assert name is not None
    assert name.startswith("000001")


def test_where_all_are_damaged_it_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    opened = write(tmp_path, made(1))
    (path,) = files(tmp_path, "*.weights.safetensors")
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=f"{path.name} is damaged.*Train anew"):
        opened.newest()


def test_files_without_their_document_are_no_checkpoint(tmp_path: Path) -> None:
    """As a writer leaves them that is killed before the last step."""
    opened = write(tmp_path, made(1), made(2))
    files(tmp_path, "*.json")[-1].unlink()
    name = opened.newest()
    assert name is not None
    assert name.startswith("000001")
    opened.save(made(3))
    opened.wait()
    assert [path.name[:6] for path in files(tmp_path, "*.weights.*")] == ["000001", "000003"]


def test_a_checkpoint_of_another_run_says_what_differs(tmp_path: Path) -> None:
    name = write(tmp_path, made(1)).names()[0]
    other = Checkpoints(str(tmp_path), {"recipe": {"name": "a", "epochs": 5}, "dataset": "e"})
    with pytest.raises(CheckpointError, match=r"dataset is 'd' there and 'e' here; recipe\.epochs"):
        other.read(name)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    opened = write(tmp_path, made(1))
    (path,) = files(tmp_path, "*.json")
    document = json.loads(path.read_text())
    del document["sha256"]
    document["version"] = 99
    from motoric.training.checkpoint import _digest

    path.write_text(json.dumps(document | {"sha256": _digest(document)}))
    with pytest.raises(CheckpointError, match="has version 99"):
        opened.newest()


def test_a_storage_that_cannot_be_written_is_said_at_the_next_checkpoint(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file, not a folder")
    opened = Checkpoints(str(tmp_path), IDENTITY)
    opened.save(made(1))
    with pytest.raises(PlatformError, match="cannot be written"):
        opened.save(made(2))
