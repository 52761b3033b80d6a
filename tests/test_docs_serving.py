"""The pages of docs/serving/ agree with the code: types, defaults, statuses, codes, calls."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from motoric.cli.main import app
from motoric.client import AsyncClient, Client
from motoric.core import errors
from motoric.serving.asgi import MethodError
from motoric.serving.bodies.decoding import BODY_TYPES
from motoric.serving.bodies.encoding import ANSWER_TYPES
from motoric.serving.config import MAX_MESSAGE_MIB, ModelAppArgs, ModelDeployment
from motoric.serving.files.kinds import SENSOR_SUFFIXES, VIDEO_SUFFIXES
from motoric.serving.media_types import FILE_TYPES
from motoric.serving.open_inference.grpc.messages import _STATUS
from motoric.serving.streams.closing import RESUMABLE, CloseCode
from motoric.serving.streams.limits import StreamLimits
from motoric.serving.streams.tokens import MAX_LIFETIME_S
from serving_pages import FOLDER, PAGES, blocks, quoted, table

DEPLOYMENTS = FOLDER.parents[1] / "deployments" / "models"
STATUSES = {
    error.status
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, errors.MotoricError)
} | {MethodError.status}


def numbers(text: str) -> set[int]:
    return {int(found) for found in re.findall(r"\b\d+\b", text)}


def names(types: Any) -> list[str]:
    return [item.decode() for item in types]


def test_links_between_the_pages_lead_somewhere():
    links = [
        (page, link)
        for page, text in PAGES.items()
        for link in re.findall(r"\]\((?!https:)([^)#]+)\)", text)
    ]
    assert links
    assert [item for item in links if not (FOLDER / item[1]).exists()] == []


def test_types_of_bodies_and_answers_are_those_of_the_code():
    rows = table("README.md", "Content-Type")
    assert [quoted(row[0]) for row in rows] == [[name] for name in names(BODY_TYPES)]
    said = PAGES["README.md"].split("`Accept` chooses the answer: ")[1].split(". In JSON:")[0]
    assert sorted(quoted(said)) == sorted(names(ANSWER_TYPES))
    rows = table("files.md", "type")
    assert [quoted(row[0]) for row in rows] == [[name] for name in names(BODY_TYPES)]


def test_the_table_of_files_is_that_of_the_code():
    cells = [
        row[0] for row in table("files.md", "Content-Type, or ending of the name in a form or URI")
    ]
    found = quoted(" ".join(cells))
    types = {
        found[index]: found[index + 1]
        for index, name in enumerate(found)
        if not name.startswith(".")
    }
    assert types == {kind.decode(): suffix for kind, suffix in FILE_TYPES.items()}
    (gzipped,) = re.findall(r"`\.gz` may follow (.*?)\.\s", PAGES["files.md"])
    plain = [name for name in found if name.startswith(".")]
    known = {*plain, *(f"{suffix}.gz" for suffix in quoted(gzipped))}
    assert known == {*SENSOR_SUFFIXES, *VIDEO_SUFFIXES}


def test_the_defaults_on_the_pages_are_those_of_the_code():
    defaults = ModelAppArgs(model="gym").model_dump(mode="json")
    (shown,) = map(yaml.safe_load, blocks("README.md", "yaml"))
    assert shown == {name: defaults[name] for name in ("batching", "limits", "cors_origins")}
    (shown,) = map(yaml.safe_load, blocks("files.md", "yaml"))
    assert shown == {"files": defaults["files"]}


def test_the_table_of_statuses_has_all_that_the_code_gives():
    found = numbers(" ".join(row[0] for row in table("README.md", "status")))
    assert found == STATUSES


def test_the_tables_of_files_and_of_open_inference_name_statuses_that_exist():
    found = numbers(" ".join(row[0] for row in table("files.md", "status")))
    assert found
    assert found <= STATUSES
    rows = table("open_inference.md", "what is wrong")
    assert numbers(" ".join(row[1] for row in rows)) <= STATUSES
    named = {name for row in rows for name in row[2].split(", ") if name}
    assert named == {status.name for _, status in _STATUS}
    assert f"{MAX_MESSAGE_MIB} MiB" in PAGES["open_inference.md"]


def test_close_codes_are_those_of_the_code():
    rows = table("streams.md", "close code")
    found = [{code for code in numbers(row[0]) if code > 999} for row in rows]
    assert found[0] == set(RESUMABLE)
    assert set.union(*found) == set(CloseCode) - {CloseCode.NORMAL}
    assert sum(map(len, found)) == len(CloseCode) - 1


@pytest.mark.parametrize(
    "said",
    [
        f'"max_chunk": {StreamLimits().max_chunk}, "max_chunk_s": {StreamLimits().max_chunk_s},',
        f"no further ahead than {StreamLimits().max_waiting} windows",
        f"at most {MAX_LIFETIME_S:g})",
    ],
)
def test_numbers_of_streams_are_those_of_the_code(said: str):
    assert said in re.sub(r"\s+", " ", PAGES["streams.md"])


def test_both_clients_have_the_calls_of_the_table():
    rows = table("client.md", "call")
    named = {call.partition("(")[0] for row in rows for call in quoted(row[0])}
    for client in (Client, AsyncClient):
        calls = {name for name in vars(client) if not name.startswith("_")}
        assert calls - {"close", "aclose"} == named


def test_commands_on_the_pages_exist():
    there = typer.main.get_command(app)
    assert isinstance(there, TyperGroup)
    lines = [line for page in PAGES for line in re.findall(r"`motoric ([^`]+)`", PAGES[page])]
    assert len(lines) > 3
    for line in lines:
        name, *words = line.split()
        command = there.commands[name]
        if isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        given = {word for word in words if word.startswith("--")}
        assert given <= {option for item in command.params for option in item.opts}
        assert len(words) - len(given) <= len(command.params)


def test_the_times_of_the_client_are_its_defaults():
    page = PAGES["client.md"]
    for call, name, said in (
        (Client, "timeout_s", "`timeout_s` ({:g} by default"),
        (Client.stream, "max_offline_s", "`max_offline_s` ({:g})"),
    ):
        assert said.format(inspect.signature(call).parameters[name].default) in page


def leaves(content: dict[str, Any], before: str = "") -> dict[str, Any]:
    found = {}
    for name, value in content.items():
        nested = leaves(value, f"{before}{name}.") if isinstance(value, dict) else {}
        found |= nested or {f"{before}{name}": value}
    return found


@pytest.mark.parametrize("path", sorted(DEPLOYMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_deployment_shows_the_defaults_unless_it_says_others(path: Path):
    text = path.read_text()
    assert "unless a comment says otherwise" in text
    given = leaves(yaml.safe_load(text))
    defaults = leaves(ModelDeployment(model=path.stem).model_dump(mode="json"))
    for name, value in given.items():
        key = name.rpartition(".")[2]
        comments = re.findall(rf"^ *{key}:.*\(default ([^)]+)\)", text, flags=re.MULTILINE)
        said = yaml.safe_load(comments[0]) if comments else value
        assert said == defaults[name], name
