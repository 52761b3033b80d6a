from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motoric.core.errors import SettingsError, UserError
from motoric.training.attempt import begin_attempt, check_newest, check_storage
from motoric.training.checkpoint import FOLDER, Checkpoint, Checkpoints, Position


def test_a_storage_that_a_node_does_not_share_is_named(tmp_path: Path) -> None:
    attempt = begin_attempt(str(tmp_path / "run"))
    check_storage(str(tmp_path / "run"), attempt)
    for place, mark in (("elsewhere", attempt), ("run", "another attempt")):
        with pytest.raises(SettingsError, match="all nodes must share the storage"):
            check_storage(str(tmp_path / place), mark)


def test_a_run_that_another_goes_on_with_writes_no_more_checkpoints(tmp_path: Path) -> None:
    first = begin_attempt(str(tmp_path))
    checkpoints = Checkpoints(
        str(tmp_path), {}, before_writing=lambda: check_newest(str(tmp_path), first)
    )
    checkpoint = Checkpoint(position=Position(epoch=1), weights={"w": torch.zeros(1)})
    checkpoints.save(checkpoint)
    checkpoints.wait()
    before = sorted((tmp_path / FOLDER).iterdir())
    assert len(before) == 2
    begin_attempt(str(tmp_path))
    checkpoints.save(checkpoint)
    with pytest.raises(UserError, match=r"another `motoric train --resume` goes on with the run"):
        checkpoints.wait()
    assert sorted((tmp_path / FOLDER).iterdir()) == before
