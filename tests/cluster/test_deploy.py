from pathlib import Path

import pytest

from artefacts import write_small_artefact
from exported import exported
from motoric.artefact import files
from motoric.cluster.deploy import check_servable
from motoric.core.errors import ArtefactError
from motoric.registry.registry import RegisteredVersion


def version_at(uri: Path, digest: str) -> RegisteredVersion:
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


@pytest.mark.parametrize("name", ["r2plus1d", "fusion", "recurrent"])
def test_models_of_clips_and_of_both_are_served_too(tmp_path: Path, name: str) -> None:
    made = exported(name)
    digest = write_small_artefact(str(tmp_path), graph=made.model, signature=made.signature)
    check_servable(version_at(tmp_path, digest))


@pytest.mark.parametrize("name", [files.SIGNATURE, files.MODEL])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    found = version_at(tmp_path, write_small_artefact(str(tmp_path)))
    (tmp_path / name).write_text("{}")
    with pytest.raises(ArtefactError, match=rf"{name} .* was changed"):
        check_servable(found)


def test_an_artefact_other_than_the_registered_one_is_refused(tmp_path: Path) -> None:
    write_small_artefact(str(tmp_path))
    with pytest.raises(ArtefactError, match="the release names sha256:other"):
        check_servable(version_at(tmp_path, "sha256:other"))


def test_a_signature_of_another_schema_is_refused(tmp_path: Path) -> None:
    made = exported("recurrent")
    signature = made.signature.model_copy(update={"schema_version": 2})
    digest = write_small_artefact(str(tmp_path), graph=made.model, signature=signature)
    with pytest.raises(ArtefactError, match="schema_version"):
        check_servable(version_at(tmp_path, digest))
