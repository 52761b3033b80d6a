"""The pages of docs/ say what the code does: their YAML fits, their Python runs, tables agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from motoric.data import read_clips, read_windows, tables
from motoric.data.formats.catalogue import READERS, VIDEO_SUFFIXES
from motoric.data.formats.channels import column_meaning
from motoric.data.formats.table_time import time_columns
from motoric.data.formats.units import QUANTITIES
from motoric.data.ingest import flags, ordering
from motoric.data.ingest.listing import ANNOTATION_COLUMNS
from motoric.data.ingest.manifest import COLUMNS
from motoric.data.ingest.settings import IngestSettings, SensorSettings
from motoric.data.recording import GAP_PERIODS
from motoric.data.video.motion_tap import MAX_COMPARED_S
from motoric.training.recipe import parse_recipe
from recordings import SineSource, recipe_content, write_dataset

ROOT = Path(__file__).parents[1]
CODE = ROOT / "platform" / "motoric" / "data"
PAGE = (ROOT / "docs" / "ingest.md").read_text()
DATASET = "datasets/spring"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def rows_after(heading: str) -> list[list[str]]:
    """Cells of the tables of a section, without their header and rule lines."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rules = {index for index, line in enumerate(lines) if set(line) <= set("|-")}
    kept = [
        line for index, line in enumerate(lines) if index not in rules and index + 1 not in rules
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def documents() -> list[dict[str, Any]]:
    return [document for block in blocks("yaml") for document in yaml.safe_load_all(block)]


def is_recipe(document: dict[str, Any]) -> bool:
    return bool({"preprocessing", "split"} & set(document))


INGEST = [document for document in documents() if not is_recipe(document)]
RECIPES = [document for document in documents() if is_recipe(document)]
PYTHON = blocks("python")
ON_RAY = [block for block in PYTHON if "read_windows(" in block]
WITHOUT_RAY = [block for block in PYTHON if block not in ON_RAY]


def missing_keys(model: type[BaseModel], given: dict[str, Any], place: str = "") -> list[str]:
    """Keys of the settings that an example does not show, as dotted paths."""
    found = [f"{place}{name}" for name in model.model_fields if name not in given]
    for name, field in model.model_fields.items():
        if name not in given:
            continue
        value = given[name]
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                if part is not field.annotation:  # a mapping: what any of its entries shows
                    value = {key: one for entry in value.values() for key, one in entry.items()}
                found += missing_keys(part, value, f"{place}{name}.")
    return found


def test_the_page_is_short_and_narrow() -> None:
    lines = PAGE.splitlines()
    assert len(lines) <= 180
    assert [line for line in lines if len(line) > 120] == []


def test_the_example_of_ingest_yaml_fits_and_has_every_key() -> None:
    (document,) = INGEST
    IngestSettings.model_validate(document)
    assert missing_keys(IngestSettings, document) == []


def test_a_key_that_the_example_lacks_would_be_noticed() -> None:
    shown = {"sensors": {"time": {"unit": "ms"}, "columns": {"a": {"unit": "g"}}}}
    lacking = missing_keys(IngestSettings, shown)
    assert {"version", "sensors.time.rate_hz", "sensors.columns.ignore"} <= set(lacking)
    assert not {"sensors.time.unit", "sensors.columns.unit"} & set(lacking)


def test_the_pattern_of_the_example_reads_the_path_on_the_page() -> None:
    pattern = IngestSettings.model_validate(INGEST[0]).path_pattern
    assert pattern is not None
    assert "`anna/squat_03.fit`" in PAGE
    found = re.search(pattern, "anna/squat_03.fit")
    assert found is not None
    assert found.groupdict() == {"subject": "anna", "label": "squat"}


@pytest.mark.parametrize("document", RECIPES, ids=lambda document: str(document["split"]["kind"]))
def test_the_parts_of_recipes_fit(document: dict[str, Any]) -> None:
    parse_recipe(recipe_content(DATASET, **document), "docs/ingest.md")


def test_every_kind_of_split_and_step_is_on_the_page() -> None:
    recipe = parse_recipe(recipe_content(DATASET, **RECIPES[0]), "docs/ingest.md")
    assert [step.step for step in recipe.preprocessing.steps] == [
        "hampel",
        "low_pass",
        "gravity_split",
    ]
    assert {document["split"]["kind"] for document in RECIPES} == {
        "by_subject",
        "group_k_fold",
        "leave_one_out",
        "random_windows_leaking_subjects",
    }


def told(call: ast.Call) -> str:
    """`repair`, `note`, or `either` where it depends."""
    for keyword in call.keywords:
        if keyword.arg == "is_repair":
            if isinstance(keyword.value, ast.Constant):
                return "repair" if keyword.value.value else "note"
            return "either"
    # `say` of ordering.py repairs unless it says otherwise, `add` of Notes the other way round.
    return "repair" if isinstance(call.func, ast.Name) else "note"


def is_flagging(call: ast.Call) -> bool:
    func = call.func
    if isinstance(func, ast.Name):
        return func.id == "say"
    return (
        isinstance(func, ast.Attribute)
        and func.attr == "add"
        and ast.unparse(func.value).rpartition(".")[2] in ("notes", "_notes")
    )


def flags_of_the_code() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(CODE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not is_flagging(node):
                continue
            kind = node.args[0]
            if not isinstance(kind, ast.Constant):
                # Only the helper itself hands a kind on.
                assert (path.name, ast.unparse(kind)) == ("ordering.py", "kind")
                continue
            before = found.setdefault(str(kind.value), told(node))
            if before != told(node):
                found[str(kind.value)] = "either"
    return found


def test_the_table_of_flags_is_that_of_the_code() -> None:
    rows = rows_after("What ingest does, and what it leaves")
    table = [(kind, row[2]) for row in rows for kind in quoted(row[0])]
    assert len(table) == len(dict(table))
    assert dict(table) == flags_of_the_code()


def test_the_table_of_formats_names_every_ending_of_sensor_files() -> None:
    endings = [quoted(row[0]) for row in rows_after("What comes in")]
    assert sorted(ending for row in endings[:-1] for ending in row) == sorted(READERS)
    assert set(endings[-1]) <= VIDEO_SUFFIXES


def test_the_table_of_the_manifest_has_its_columns() -> None:
    named = [name for row in rows_after("The manifest") for name in quoted(row[0])]
    assert sorted(named) == sorted(COLUMNS)
    assert f"`{','.join(ANNOTATION_COLUMNS)}`" in PAGE


def test_the_table_of_units_is_that_of_the_code() -> None:
    rows = {row[0]: row for row in rows_after("Units")}
    assert sorted(rows) == sorted(quantity.name for quantity in QUANTITIES)
    for quantity in QUANTITIES:
        _, kept, others, without, _ = rows[quantity.name]
        standard = list(dict.fromkeys(unit.standard for unit in quantity.units.values()))
        assert quoted(kept) == standard
        assert quoted(others) == [name for name in quantity.units if name not in standard]
        assert without == (f"`{quantity.default}`" if quantity.default else "rejected")


def test_headers_of_the_table_of_units_become_what_it_says() -> None:
    for row in rows_after("Units"):
        header, stream, channel = quoted(row[4])
        meaning = column_meaning(header, SensorSettings())
        assert meaning is not None
        assert (meaning.stream, meaning.channel.name) == (stream, channel)
        assert meaning.channel.unit in quoted(row[1])
    other = column_meaning("emg [mV]", SensorSettings())
    assert other is not None
    assert "`emg [mV]`" in PAGE
    assert (other.stream, other.channel.unit) == ("other", "mV")


def test_names_of_times_on_the_page_are_known() -> None:
    named = ("time_s", "timestamp_ms", "Time (us)")
    assert all(f"`{name}`" in PAGE for name in named)
    assert time_columns(named) == {"time_s": "s", "timestamp_ms": "ms", "Time (us)": "us"}


def test_the_table_of_tables_has_their_columns() -> None:
    found: dict[str, list[str]] = {}
    table = ""
    for name, columns in rows_after("The dataset on disk"):
        table = name.strip("`") or table
        found.setdefault(table, []).extend(quoted(columns))
    schemas = {
        "recordings": tables.RECORDINGS,
        "annotations": tables.ANNOTATIONS,
        "quarantine": tables.QUARANTINE,
        "streams": tables.STREAMS,
    }
    assert {name: sorted(columns) for name, columns in found.items()} == {
        name: sorted(schema.names) for name, schema in schemas.items()
    }


@pytest.mark.parametrize(
    "said",
    [
        f"up to {ordering.REORDER_S:g} s out of order",
        f"over {ordering.REORDER_S:g} s back",
        f"steps over {GAP_PERIODS:g} sample periods",
        f"over {100 * flags._RATE_TOLERANCE:g} % off the rate",
        f"heart rate below {flags.MIN_HEART_RATE_BPM:g} bpm",
        f"the first {MAX_COMPARED_S / 60:g} minutes",
        f"`chunk` ({tables.CHUNK_S:g} s)",
    ],
)
def test_numbers_on_the_page_are_those_of_the_code(said: str) -> None:
    assert said in PAGE


@pytest.mark.parametrize("number", range(len(WITHOUT_RAY)))
def test_python_without_ray_runs(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=1, duration_s=5.0))
    block = WITHOUT_RAY[number]
    assert DATASET in block
    exec(compile(block.replace(DATASET, str(tmp_path)), "docs/ingest.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "imu" in printed or "m/s^2" in printed
    assert "20.0" in printed


def test_python_on_ray_names_arguments_that_exist() -> None:
    (block,) = ON_RAY
    functions = {"read_windows": read_windows, "read_clips": read_clips}
    called = set()
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in functions:
            called.add(ast.unparse(node.func))
            known = functions[ast.unparse(node.func)].__annotations__
            assert {keyword.arg for keyword in node.keywords} <= set(known)
    assert called == set(functions)


def test_the_languages_of_all_blocks_are_tested_or_shell() -> None:
    languages = re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)
    assert set(languages) == {"sh", "yaml", "python"}
    assert len(PYTHON) == languages.count("python") == 3
