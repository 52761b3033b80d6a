"""docs/own_model.md is followed to the letter in a copy of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recordings import SineSource, write_dataset

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_model.md").read_text()
CATALOGUE = "platform/motoric/models/catalogue.py"
FILE = "platform/motoric/models/temporal_convolution.py"

# What a reader does after adding the model: a recipe with it is trained for an epoch and exported.
FOLLOWED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, yaml
torch.set_num_threads(1)
import motoric
from trainings import load, train_here
recipe, data = load(sys.argv[2], **yaml.safe_load(sys.argv[3]), train={"epochs": 1})
made = train_here(recipe, data)
found_BK = made.predictor().predict(data.test.windows_BTC)
difference = abs(found_BK - made.predicted(data.test)).max()
print(motoric.__file__, type(made.network).__name__, difference < 1e-4)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_page_is_short_and_narrow_and_names_files_that_exist() -> None:
    lines = PAGE.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120] == []
    named = set(re.findall(r"`(platform/[\w/]+\.py)`", PAGE)) - {FILE}
    assert CATALOGUE in named
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert set(re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)) == {"python", "yaml", "sh"}


@pytest.mark.timeout(120)
def test_who_follows_the_page_has_a_model_that_trains_and_exports(tmp_path: Path) -> None:
    copy = tmp_path / "platform"
    shutil.copytree(ROOT / "platform", copy, ignore=shutil.ignore_patterns("__pycache__"))
    code, its_import, its_line = blocks("python")
    (tmp_path / FILE).write_text(code)
    catalogue = (tmp_path / CATALOGUE).read_text()
    start = "MODELS: dict[str, ModelKind] = {\n"
    assert catalogue.count(start) == 1
    catalogue = catalogue.replace(start, start + its_line)
    first = "from motoric.models.shapes import"
    assert catalogue.count(first) == 1
    (tmp_path / CATALOGUE).write_text(catalogue.replace(first, its_import + first))
    write_dataset(str(tmp_path / "sines"), SineSource(num_subjects=3, duration_s=8.0))
    (recipe,) = blocks("yaml")
    assert yaml.safe_load(recipe)["model"]["name"] == "temporal_convolution"
    done = subprocess.run(
        [
            sys.executable,
            *("-c", FOLLOWED, str(ROOT / "tests" / "support"), str(tmp_path / "sines"), recipe),
        ],
        env={"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PATH": ""},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(copy / "motoric" / "__init__.py"),
        "TemporalConvolution",
        "True",
    ]
