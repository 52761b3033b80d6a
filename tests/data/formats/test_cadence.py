from __future__ import annotations

import numpy as np
import pytest

from motoric.data.formats.cadence import count_steps
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.recording import Channel


@pytest.mark.parametrize(
    ("sports", "expected"),
    [
        (["running"], 170),
        (["trail_running", "Walking"], 170),
        (["cycling"], 85),
        (["running", "cycling"], 85),
        ([""], 85),
    ],
)
def test_cadence_counts_steps_where_all_is_on_foot(sports: list[str], expected: float) -> None:
    batch = Samples(
        stream="workout",
        channels=(Channel(name="speed", unit="m/s"), Channel(name="cadence", unit="1/min")),
        time_s=np.arange(2.0),
        values_TC=np.array([[3.0, 85.0], [3.0, 85.0]]),
    )
    notes = Notes()
    (found,) = count_steps([batch], sports, notes)
    assert found.values_TC.tolist() == [[3.0, expected], [3.0, expected]]
    is_said = any("run" in sport for sport in sports)
    assert ("cadence" in notes.metadata) == is_said
    assert batch.values_TC[0, 1] == 85
