"""docs/runs.md says what the code does: its settings, recipes, commands and messages."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from motoric.cli.main import app
from motoric.training.recipe import parse_recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "runs.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def first_cells(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`*") for cell in row] for row in rows]


def test_the_recipe_of_the_page_fits() -> None:
    (block,) = blocks("yaml")
    recipe = parse_recipe(yaml.safe_load(block), "docs/runs.md")
    assert (recipe.resources.min_workers, recipe.resources.max_workers) == (2, 8)


@pytest.mark.parametrize("row", first_cells("Settings"), ids=lambda row: row[0])
def test_settings_have_the_defaults_that_the_page_says(row: list[str]) -> None:
    place, said, _ = row
    content = {"version": 1, "name": "a", "dataset": "b", "model": {"name": "inception"}}
    found: Any = parse_recipe(content, "r")
    for key in place.split("."):
        found = getattr(found, key)
    assert found == (None if said == "none" else yaml.safe_load(said))


def test_command_lines_are_understood() -> None:
    lines = [line for line in blocks("sh")[0].splitlines() if line.startswith("motoric ")]
    assert len(lines) == 3
    for line in lines:
        _, name, *words = shlex.split(line, comments=True)
        command: Any = typer.main.get_command(app)
        command.commands[name].make_context("motoric", words)


@pytest.mark.parametrize("said", [row[0] for row in first_cells("What goes wrong")])
def test_messages_of_the_table_are_in_the_code(said: str) -> None:
    texts = [
        node.value
        for path in (ROOT / "platform" / "motoric").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for piece in said.split("…"):
        assert any(piece.strip() in text for text in texts), piece


def test_the_page_is_narrow_and_linked() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 120] == []
    assert "](runs.md)" in (ROOT / "docs" / "training.md").read_text()
