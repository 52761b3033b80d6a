from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from artefacts import small_signature, write_small_artefact
from motoric.artefact import files
from motoric.artefact.files import load_artefact, write_artefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import parse_signature
from motoric.core.errors import ArtefactError, InputError


def test_an_artefact_is_read_back_and_sha256sum_agrees(tmp_path: Path) -> None:
    digest = write_small_artefact(str(tmp_path))
    loaded = load_artefact(str(tmp_path), digest)
    assert loaded.digest == digest
    assert loaded.signature == small_signature()
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", files.SUMS], cwd=tmp_path, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("name", [files.MODEL, files.SIGNATURE])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    write_small_artefact(str(tmp_path))
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ArtefactError, match=f"{name} in .* was changed"):
        load_artefact(str(tmp_path))


def test_a_missing_file_another_digest_and_no_artefact_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not an artefact"):
        load_artefact(str(tmp_path))
    write_small_artefact(str(tmp_path))
    with pytest.raises(ArtefactError, match="the release names sha256:other"):
        load_artefact(str(tmp_path), "sha256:other")
    (tmp_path / files.MODEL).unlink()
    with pytest.raises(ArtefactError, match=r"lacks model\.onnx"):
        load_artefact(str(tmp_path))


def test_half_an_artefact_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"needs weights\.safetensors"):
        write_artefact(str(tmp_path), {files.MODEL: b"", files.RECIPE: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_signature_with_an_unknown_key_is_refused() -> None:
    content = small_signature().model_dump_json().replace('"task"', '"tusk"')
    with pytest.raises(ArtefactError, match="unknown key tusk"):
        parse_signature(content.encode(), "x")


def test_the_predictor_answers_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    write_small_artefact(str(tmp_path))
    predictor = Predictor.load(str(tmp_path))
    windows = np.random.default_rng(0).normal(size=(9, 10, 4)).astype(np.float32)
    together = predictor.predict(windows)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    for index, window in enumerate(windows):
        np.testing.assert_allclose(predictor.predict(window)[0], together[index], rtol=1e-5)
    with pytest.raises(InputError):
        predictor.predict(windows[:, :5])


def test_a_graph_that_does_not_load_is_named(tmp_path: Path) -> None:
    write_small_artefact(str(tmp_path / "good"))
    content = {name: (tmp_path / "good" / name).read_bytes() for name in files.REQUIRED}
    write_artefact(str(tmp_path / "bad"), content | {files.MODEL: b"not a graph"})
    with pytest.raises(ArtefactError, match="does not load"):
        Predictor.load(str(tmp_path / "bad"))
