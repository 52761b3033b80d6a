"""docs/tuning.md says what the code does: its tables, recipe, commands, pictures and messages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from motoric.cli.main import app
from motoric.training.recipe import load_recipe, parse_recipe
from motoric.training.search_config import Range, SearchConfig

ROOT = Path(__file__).parents[1]
CODE = ROOT / "platform" / "motoric"
PAGE = (ROOT / "docs" / "tuning.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def tables() -> list[list[list[str]]]:
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.split("\n")]
        found.append([row for row in rows[2:] if len(row) > 1])
    return found


SEARCH, RANGES, ERRORS = tables()


def test_the_page_is_narrow_and_its_links_and_pictures_are_there() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 120] == []
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / path).read_bytes().startswith(b"\x89PNG")


def test_the_table_of_the_search_has_its_keys_and_defaults() -> None:
    fields = SearchConfig.model_fields
    assert [row[0].strip("`") for row in SEARCH] == list(fields)
    for name, default in ((row[0].strip("`"), row[1].strip("*")) for row in SEARCH):
        if name not in ("space", "max_concurrent"):
            assert default == str(fields[name].default)


def test_every_kind_of_range_is_on_the_page_and_is_one() -> None:
    found = [Range.model_validate(yaml.safe_load(row[0].strip("`"))) for row in RANGES]
    assert [item.kind for item in found] == list(Range.model_fields)


def test_the_recipe_of_the_page_searches_what_that_of_the_repository_does() -> None:
    (block,) = blocks("yaml")
    page = parse_recipe(yaml.safe_load(block), "docs/tuning.md")
    kept = load_recipe(ROOT / "jobs" / "recipes" / "watch_search.yaml")
    assert page.search == kept.search
    assert (page.model, page.split) == (kept.model, kept.split)


@pytest.mark.parametrize(
    "line", [line for line in blocks("sh")[0].split("\n") if line.startswith("motoric ")]
)
def test_command_lines_are_understood(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("motoric", words)


@pytest.mark.parametrize("said", [row[0] for row in ERRORS])
def test_messages_of_the_table_of_errors_are_in_the_code(said: str) -> None:
    code = "".join(path.read_text() for path in CODE.rglob("*.py"))
    for piece in said[1:-1].split("…"):
        assert piece.strip(" ,:") in code, piece
