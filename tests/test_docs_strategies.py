"""docs/strategies.md says what the code does: its matrix, recipe, commands and keys."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import typer
import yaml

from motoric.cli.main import app
from motoric.models.catalogue import MODELS, StrategyName
from motoric.training.recipe import load_recipe, parse_recipe
from motoric.training.strategies.server_config import ParameterServerConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "strategies.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """Cells of a section's table, the header first."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in lines
        if not set(line) <= set("|-")
    ]


def test_the_matrix_is_that_of_the_catalogue() -> None:
    (_, *strategies), *rows = rows_of("Which models")
    assert tuple(strategies) == get_args(StrategyName)
    assert {name: cells for name, *cells in rows} == {
        name: ["yes" if item in kind.strategies else "no" for item in strategies]
        for name, kind in MODELS.items()
    }


def test_every_strategy_has_a_section_and_a_line_that_says_when() -> None:
    for name in get_args(StrategyName):
        assert f"\n## {name}\n" in PAGE
    assert {row[1] for row in rows_of("Which one")[1:]} == set(get_args(StrategyName))


def test_the_keys_of_the_parameter_server_are_all_there() -> None:
    rows = rows_of("parameter_server")[1:]
    assert [row[0] for row in rows] == list(ParameterServerConfig.model_fields)


def test_the_recipe_fits() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    recipe = parse_recipe(yaml.safe_load(block), "docs/strategies.md")
    assert recipe.strategy == "parameter_server"


def test_the_command_is_understood_and_its_recipe_takes_every_strategy() -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    _, *words = shlex.split(block)
    command: Any = typer.main.get_command(app)
    command.commands[words[0]].make_context("motoric", words[1:])
    sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    for name in get_args(StrategyName):
        changed = [f"strategy={name}" if item.startswith("strategy=") else item for item in sets]
        assert load_recipe(ROOT / words[1], changed).strategy == name


def test_the_figures_are_measured_ones() -> None:
    table = [line for line in PAGE.splitlines() if ", 2 workers " in line and line.startswith("|")]
    assert len(table) == len(get_args(StrategyName))
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text().splitlines()
    assert [line for line in table if line not in results] == []


def test_the_page_is_narrow_and_its_links_lead_somewhere() -> None:
    lines = [line for line in PAGE.splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 120] == []
    for target in re.findall(r"\]\(([\w./]+\.md)\)", PAGE):
        assert (ROOT / "docs" / target).is_file()
