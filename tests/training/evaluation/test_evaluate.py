from __future__ import annotations

import numpy as np
import pytest

from motoric.data.windows import WindowSet
from motoric.training.evaluation import evaluate


def test_figures_by_hand() -> None:
    windows = WindowSet(
        windows_BTC=np.zeros((6, 1, 1), np.float32),
        labels_B=np.array([0, 0, 1, 1, 1, 0]),
        subjects=("a", "a", "a", "b", "b", "b"),
        recording_ids=("r1", "r1", "r2", "r3", "r3", "r4"),
        start_s_B=np.zeros(6),
        classes=("x", "y", "z"),
    )
    probabilities = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.4, 0.5, 0.1],
            [0.1, 0.8, 0.1],
            [0.9, 0.1, 0],
            [0.2, 0.7, 0.1],
            [0.1, 0.1, 0.8],
        ],
        np.float32,
    )
    found = evaluate(probabilities, windows)
    assert found.accuracy == pytest.approx(3 / 6)
    assert [score.accuracy for score in found.subjects] == pytest.approx([2 / 3, 1 / 3])
    # r1: mean (.6, .3, .1) is right; r2 is right; r3: mean (.55, .4) is wrong; r4 is wrong.
    assert [score.recording_accuracy for score in found.subjects] == [1.0, 0.0]
    assert found.recording_accuracy == 0.5
    assert (found.subject_accuracy_min, found.subject_accuracy_max) == pytest.approx((1 / 3, 2 / 3))
    assert found.confusion == ((1, 1, 1), (1, 2, 0), (0, 0, 0))
    assert found.recall_by_class == pytest.approx({"x": 1 / 3, "y": 2 / 3, "z": 0.0})
