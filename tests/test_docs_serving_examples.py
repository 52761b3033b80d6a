"""What the pages of docs/serving/ show runs against a site of models of every kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from artefacts import CLASSES, release_small, small_graph, small_signature
from bad_files import START_S
from exported import exported
from filmed import write_blinking
from fit_writer import file_id, fit_file, record
from live import serving_app
from motoric.artefact.signature import Channel
from motoric.client import Client
from motoric.core import settings
from motoric.data.recording import STANDARD_GRAVITY_M_S2
from motoric.serving.accounts import open_accounts
from motoric.serving.config import Files
from motoric.serving.streams.closing import CloseCode
from motoric.serving.streams.messages import Open, parse_client_message
from recordings import RATE_HZ
from serving_pages import PAGES, blocks, table
from sites import Site
from whole_files import csv_of, heart_model

SERVER = "http://127.0.0.1:8000"  # as the pages write it
NUM_SAMPLES = 100


@dataclass(frozen=True)
class Live:
    """A site with models of every kind, and files in a folder."""

    port: int
    key: str
    folder: Path

    def text(self, text: str, model: str = "gym") -> str:
        """What a page says, for this site."""
        for before, after in (
            (SERVER, self.url),
            (SERVER.removeprefix("http://"), self.url.removeprefix("http://")),
            ("/NAME/", f"/{model}/"),
            ("mk_...", self.key),
            ("s3://bucket/rides", str(self.folder)),
        ):
            text = text.replace(before, after)
        return text

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def window(order: str = "xyz", num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """A window of the first class: half in x and 0 elsewhere."""
    return np.tile(np.float32([0.5 * (axis == "x") for axis in order]), (num_samples, 1))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("site")
    storage_uri = str(folder / "storage")
    accounts = open_accounts(
        settings.load(
            home=folder / "home",
            storage_uri=storage_uri,
            accounts_uri=f"sqlite:///{folder}/home/accounts/accounts.db",
        )
    )
    channels = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")
    moved = {
        "graph": small_graph((0.0, 0.0, 0.0), num_samples=NUM_SAMPLES, num_channels=3),
        "signature": small_signature(channels=channels, rate_hz=50.0, length_s=2.0, hop_s=1.0),
    }
    made = exported("fusion")
    inputs = tuple(part.model_copy(update={"optional": True}) for part in made.signature.inputs)
    fused = made.signature.model_copy(update={"inputs": inputs})
    models = {
        "gym": moved,
        "watch-exercises": moved,
        "heart": heart_model(),
        "both": {"graph": made.model, "signature": fused},
    }
    for name, artefact in models.items():
        release_small(storage_uri, name, 1, **artefact)
    moving_TC = window(num_samples=500) / STANDARD_GRAVITY_M_S2
    (folder / "walk.csv").write_bytes(csv_of(moving_TC, "acc_x,acc_y,acc_z", 50.0))
    (folder / "imu.csv").write_bytes(csv_of(np.ones((200, 3)), "acc_x,acc_y,acc_z", RATE_HZ))
    write_blinking(folder / "lift.mp4", 0, 4.0)
    ride = fit_file(file_id(), *(record(START_S + i, heart_rate=95 + i % 9) for i in range(120)))
    (folder / "ride.fit").write_bytes(ride)
    key = accounts.create_key("docs").secret
    files = Files(uri_prefixes=(str(folder),))
    with serving_app(Site(storage_uri, accounts, list(models), files=files)) as live:
        yield Live(live.port, key, folder)
    accounts.close()


def curl_lines(page: str) -> list[tuple[str, str]]:
    """Each curl line of a page, with the lines before that set what it needs."""
    found = []
    for block in blocks(page, "sh"):
        lines = block.splitlines()
        first = next(index for index, line in enumerate(lines) if line.startswith("curl "))
        assert all(line.startswith("curl ") for line in lines[first:])
        found += [("\n".join(lines[:first]), line) for line in lines[first:]]
    return found


def asked(live: Live, page: str, place: int, model: str, **replaced: str) -> Any:
    """What a curl line of a page is answered."""
    before, line = curl_lines(page)[place]
    for old, new in replaced.items():
        assert old in line
        line = line.replace(old, new)
    line = line.replace("curl ", "curl -sS --fail-with-body --max-time 60 ", 1)
    done = subprocess.run(
        ["bash", "-ec", live.text(f"{before}\n{line}\n", model)],
        env={"MOTORIC_API_KEY": live.key, "PATH": os.environ["PATH"], "no_proxy": "*"},
        cwd=live.folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def json_keys(cell: str) -> list[str]:
    """Quoted names of an object, `{"a", "b": ...}`."""
    return re.findall(r'"(\w+)"', cell)


def shown(windows: np.ndarray) -> str:
    return json.dumps(windows.tolist())


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@needs_curl
def test_the_lines_of_the_first_page_give_the_same_for_the_same_window(live):
    fast = window("zyx", 2 * NUM_SAMPLES)[None] / STANDARD_GRAVITY_M_S2
    slow = np.repeat(window()[None], 2, axis=1) / STANDARD_GRAVITY_M_S2
    (live.folder / "windows.f32").write_bytes(slow.tobytes())
    answers = [
        asked(live, "README.md", 0, "gym", **{"[[[0.1, 9.8, 0.3], ...]]": shown(window()[None])}),
        asked(live, "README.md", 1, "gym", **{"[...]": shown(fast)}),
        asked(live, "README.md", 2, "gym"),
    ]
    assert len(curl_lines("README.md")) == len(answers)
    (example,) = map(json.loads, blocks("README.md", "json"))
    for answer in answers:
        (prediction,) = answer["predictions"]
        assert set(prediction) == set(json_keys(table("README.md", "the model gives")[0][1]))
        assert prediction["label"] == CLASSES[0]
        assert list(answer) == list(example)
    assert list(prediction) == list(example["predictions"][0])


@needs_curl
@pytest.mark.timeout(120)
def test_the_lines_of_the_page_of_files_are_answered_with_a_timeline(live):
    answers = [
        asked(live, "files.md", 0, "heart"),
        asked(live, "files.md", 1, "gym"),
        asked(live, "files.md", 2, "both"),
        asked(live, "files.md", 3, "heart"),
    ]
    assert len(curl_lines("files.md")) == len(answers)
    said = PAGES["files.md"].split("## A file in, a timeline out\n")[1].split("`")[1]
    for answer in answers:
        assert set(json_keys(said)) <= {*answer, *answer["segments"][0]}
    assert answers[0]["segments"] == answers[3]["segments"]
    assert [segment["label"] for segment in answers[1]["segments"]] == [CLASSES[0]]
    assert len(answers[1]["windows"]) == answers[1]["num_windows"] == 9


def test_the_python_of_the_client_runs(live, capsys):
    first, second = blocks("client.md", "python")
    windows = np.stack([window("yxz"), window()])
    exec(compile(live.text(first), "client.md", "exec"), {"windows": windows})
    printed = capsys.readouterr().out.splitlines()
    assert "gym 1" in printed
    assert printed[-2].startswith(f"{(CLASSES[1], CLASSES[0])} [[")
    assert re.search(r"1 sha256:[0-9a-f]{64}$", printed[-1])
    samples = window(num_samples=500) / np.float32(STANDARD_GRAVITY_M_S2)
    with Client(live.url, live.key) as client:
        given = {"client": client, "device": np.split(samples, 20)}
        exec(compile(live.text(second), "client.md", "exec"), given)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed] == [[f"{s}.0", CLASSES[0]] for s in range(9)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_python_of_open_inference_runs(live):
    (code,) = blocks("open_inference.md", "python")
    given: dict[str, Any] = {}
    exec(compile(live.text(code), "open_inference.md", "exec"), given)
    assert given["result"].as_numpy("probabilities").shape == (2, len(CLASSES))
    assert given["result"].as_numpy("label").shape == (2,)


def messages_of_the_page() -> dict[str, str]:
    """The session that the page shows, by the first name or type of each message."""
    (text,) = blocks("streams.md", "text")
    found = {}
    for message in re.split(r"^(?:->|<-) ", text, flags=re.MULTILINE)[1:]:
        name, kind = re.findall(r'"(\w+)": "?(\w*)', message)[0]
        found.setdefault(kind if name == "type" else name, message)
    return found


def test_the_session_of_the_page_runs_and_has_its_messages(live):
    page = messages_of_the_page()
    assert list(page) == ["open", "opened", "first", "prediction", "end", "ended"]
    (code,) = blocks("streams.md", "python")
    address = f"ws://127.0.0.1:{live.port}/v1/models/gym/stream"
    headers = {"Authorization": f"Bearer {live.key}"}
    with connect(address, additional_headers=headers, proxy=None) as socket:
        assert isinstance(parse_client_message(page["open"]), Open)
        socket.send(page["open"])
        got = [json.loads(socket.recv(10))]
        socket.send(page["first"].replace(", ...", ""))
        samples = window(num_samples=123)
        exec(code, {"struct": struct, "socket": socket, "samples": samples, "first": 2})
        socket.send(page["end"])
        got += map(json.loads, socket)
        assert socket.close_code == CloseCode.NORMAL
    by_type = {message["type"]: message for message in got}
    for kind in ("opened", "prediction", "ended"):
        message = by_type[kind]
        inner = {**message, **message.get("resume", {})}
        assert set(message) <= set(re.findall(r'"(\w+)":', page[kind])) <= set(inner), kind
