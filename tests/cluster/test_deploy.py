from pathlib import Path

import pytest

from artefacts import small_graph, small_signature, write_small_artefact
from motoric.artefact import files
from motoric.artefact.signature import (
    ClipInput,
    Input,
    Output,
    QuantilesOutput,
    Signature,
    ValueOutput,
)
from motoric.cluster.deploy import check_servable
from motoric.core.errors import ArtefactError
from motoric.registry.registry import RegisteredVersion

SENSORS = small_signature().sensors.model_copy(update={"optional": True})
CLASSES = small_signature().output
CLIP = ClipInput(num_frames=8, height=16, width=16, optional=True)
VALUE = ValueOutput(of="heart_rate", unit="bpm")
QUANTILES = QuantilesOutput(of="heart_rate", unit="bpm", horizon_s=60.0, quantiles=(0.5,))


def version_at(uri: Path, digest: str = "") -> RegisteredVersion:
    return RegisteredVersion(
        model="gym",
        version=3,
        digest=digest,
        artefact_uri=str(uri),
        run_id="",
        created_at_s=0.0,
        aliases=("champion",),
        figures={},
    )


def write(uri: Path, signature: Signature) -> RegisteredVersion:
    content = dict.fromkeys(files.REQUIRED, b"none") | {
        files.MODEL: small_graph((0.0, 0.0)),
        files.SIGNATURE: signature.model_dump_json().encode(),
    }
    return version_at(uri, files.write_artefact(str(uri), content))


def test_a_model_of_sensor_windows_and_classes_passes(tmp_path: Path) -> None:
    check_servable(version_at(tmp_path, write_small_artefact(str(tmp_path))))


@pytest.mark.parametrize(
    ("task", "inputs", "output", "told"),
    [
        ("classify", (CLIP,), CLASSES, "takes clips of video"),
        ("classify", (SENSORS, CLIP), CLASSES, "takes sensor windows and clips of video"),
        ("regress", (SENSORS,), VALUE, "gives value"),
        ("forecast", (SENSORS,), QUANTILES, "gives quantiles"),
    ],
)
def test_what_is_not_served_is_refused_and_the_message_says_what_is(
    tmp_path: Path, task: str, inputs: tuple[Input, ...], output: Output, told: str
) -> None:
    signature = Signature.model_validate({"task": task, "inputs": inputs, "outputs": (output,)})
    with pytest.raises(ArtefactError, match=f"version 3 of gym {told}.*sensor windows alone"):
        check_servable(write(tmp_path, signature))


def test_a_changed_signature_is_named(tmp_path: Path) -> None:
    found = write(tmp_path, small_signature())
    (tmp_path / files.SIGNATURE).write_text("{}")
    with pytest.raises(ArtefactError, match=r"signature\.json .* was changed"):
        check_servable(found)
