"""The shape of the tree that DESIGN fixes: imports point one way, `platform/` is no package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "motoric"
# In the order that data takes; a part imports only parts before it.
ORDER = [
    "core",
    "data",
    "artefact",
    "models",
    "training",
    "optimization",
    "registry",
    "workflows",
    "serving",
    "client",
    "cluster",
    "cli",
]
FOR_SERVING = {"core", "data", "artefact", "serving"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path) if name.startswith("motoric."))
    return {name[1] for name in names if name[1] in ORDER}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_only_up_the_list(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    if folder not in ORDER:
        return
    allowed = set(ORDER[: ORDER.index(folder) + 1])
    if folder == "serving":
        allowed = FOR_SERVING
    assert parts(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_of_readable_length(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_every_folder_stands_in_the_order() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ORDER)


def test_platform_is_a_source_root_and_never_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
