"""docs/training.md says what the code does: its tables, recipes, commands and messages."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from motoric.cli.main import app
from motoric.models.catalogue import MODELS, build_model, parse_config
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.training.recipe import Recipe, parse_recipe

ROOT = Path(__file__).parents[1]
CODE = ROOT / "platform" / "motoric"
PAGE = (ROOT / "docs" / "training.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def section_of(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows_of(text: str) -> list[list[str]]:
    """Cells of a table, without its header and rule lines."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rule = next(index for index, line in enumerate(lines) if set(line) <= set("|-"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[rule + 1 :]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


DOCUMENTS: list[dict[str, Any]] = [
    document for block in blocks("yaml") for document in yaml.safe_load_all(block)
]


def parts_of(annotation: Any) -> list[type[BaseModel]]:
    """The models of settings in an annotation, unions and `Annotated` looked through."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for item in get_args(annotation) for part in parts_of(item)]


def keys_of(name: str) -> set[str]:
    """The keys that a key of a recipe has below it."""
    return {
        key for part in parts_of(Recipe.model_fields[name].annotation) for key in part.model_fields
    }


def recipe_table() -> dict[str, set[str]]:
    """Keys by the key of a recipe that they stand below; a row without one continues the last."""
    found: dict[str, set[str]] = {}
    names: list[str] = []
    for first, keys, *_ in rows_of(section_of("The recipe, key by key")):
        names = quoted(first) or names
        for name in names:
            found.setdefault(name, set()).update(quoted(keys))
    return found


def augmentation_table() -> dict[str, set[str]]:
    tables = re.split(r"^\| key of `(\w+)` ", section_of("Augmentation"), flags=re.MULTILINE)[1:]
    return {
        name: {key for row in rows_of(table) for key in quoted(row[0])}
        for name, table in zip(tables[::2], tables[1::2], strict=True)
    }


def test_the_page_is_short_and_narrow_and_its_links_lead_somewhere() -> None:
    lines = PAGE.splitlines()
    assert len(lines) <= 230
    assert [line for line in lines if len(line) > 120] == []
    linked = re.findall(r"\]\((\w+\.md)\)", PAGE)
    assert {"ingest.md", "own_model.md"} <= set(linked)
    assert [name for name in linked if not (ROOT / "docs" / name).is_file()] == []
    assert set(re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)) == {"sh", "yaml"}


def test_the_table_of_the_recipe_has_its_keys_and_no_others() -> None:
    elsewhere = {"model", "augmentation", "clip_augmentation"}
    table = recipe_table()
    assert sorted(table) == sorted(Recipe.model_fields)
    assert {name: keys for name, keys in table.items() if name not in elsewhere} == {
        name: keys_of(name) for name in Recipe.model_fields if name not in elsewhere
    }


def test_the_tables_of_augmentation_have_its_keys_and_no_others() -> None:
    table = augmentation_table()
    assert table == {name: keys_of(name) for name in ("augmentation", "clip_augmentation")}


def test_the_table_of_models_has_every_model_what_it_takes_and_its_size() -> None:
    rows = rows_of(section_of("Models"))
    assert sorted(quoted(row[0])[0] for row in rows) == sorted(MODELS)
    sensors = SensorShape(num_samples=200, num_channels=6, rate_hz=50.0)
    clip = ClipShape(num_frames=24, height=72, width=48, num_channels=1)
    branches = {"sensors": {"name": "inception"}, "clip": {"name": "r2plus1d"}}
    for name, takes, _, _, size in ((quoted(row[0])[0], *row[1:]) for row in rows):
        assert tuple(takes.split(", ")) == MODELS[name].takes
        config = parse_config({"name": name, **(branches if "fusion" in name else {})})
        network = build_model(config, InputShapes(sensors=sensors, clip=clip), 7)
        num = sum(parameter.numel() for parameter in network.parameters())
        assert size == f"{round(num / 1000)} k"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["name"])
def test_recipes_of_the_page_fit(document: dict[str, Any]) -> None:
    assert parse_recipe(document, "docs/training.md").name == document["name"]


def test_recipes_of_the_page_show_every_task_and_every_kind_of_input() -> None:
    assert {item.get("task") for item in DOCUMENTS} >= {"classify", "regress", "forecast"}
    inputs = {("window" in item, "clip" in item) for item in DOCUMENTS}
    assert inputs == {(True, False), (False, True), (True, True)}


def command_lines() -> list[str]:
    """Calls of `motoric` in shell blocks and in the text."""
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", "").split("\n")]
    return [line for line in [*lines, *quoted(PAGE)] if line.startswith("motoric ")]


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_are_understood(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    if words:  # the text also names commands alone
        command.make_context("motoric", words)


def test_every_command_of_training_is_on_the_page() -> None:
    called = " ".join(command_lines())
    wanted = ("models recommend", "train", "evaluate", "predict", "runs list", "runs show")
    assert [name for name in (*wanted, "runs compare") if f"motoric {name}" not in called] == []


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Every text in the package; of an f-string, the pieces between its values."""
    trees = (ast.parse(path.read_text()) for path in CODE.rglob("*.py"))
    nodes = chain.from_iterable(ast.walk(tree) for tree in trees)
    return tuple(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize(
    "said", [quoted(row[0])[0] for row in rows_of(section_of("What goes wrong"))]
)
def test_messages_of_the_table_of_errors_are_in_the_code(said: str) -> None:
    for piece in said.split("…"):
        assert any(piece.strip() in text for text in texts_of_the_code()), piece
