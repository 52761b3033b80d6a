"""The example clients, built by the commands of their README and asked as a developer would.

What they print is compared with what the predictor says in this process. A client whose tools are
not here is skipped, with the reason.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from artefacts import release_small, small_graph
from live import serving_app
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    Normaliser,
    Preprocessing,
    SensorInput,
    Signature,
)
from motoric.core import settings
from motoric.data.recording import Stream
from motoric.data.sources.watch_exercises import WatchExercises
from motoric.data.windows import Windower
from motoric.serving.accounts import open_accounts
from proxies import CuttingProxy
from sites import Site

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
MODEL = "exercises"
CLASSES = ("pendulum", "upright row", "rest")
TIMEOUT_S = 120
NUM_SAMPLES = 1500
ALL = ("java", "cpp", "typescript")
LIVE = ("java", "typescript")
# Bytes: in the handshake's answer, among the first predictions, and in later ones. Node has the
# predictions compressed.
CUTS = {"java": (40, 1000, 3001, 4999), "typescript": (40, 500, 700, 901)}


# Without one of these a client cannot be built here.
TOOLS = {"java": ("javac", "java"), "cpp": ("cmake", "c++"), "typescript": ("npm", "node")}
# What a first step says where packages are missing, or npm does not reach its registry.
LACKS = {
    "cpp": r"Could NOT find CURL|nlohmann_json",
    "typescript": r"npm error code E(AI_AGAIN|NOTFOUND|CONN\w+|TIMEDOUT|NOTCACHED|HOST\w+|4\d\d)",
}
NPM = {
    "npm_config_prefer_offline": "true",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_fetch_retries": "1",
}


# What stands around the page of the README.
PAGE_HEAD = """import { LiveStream } from "./stream.js";
declare const samples: number[][];
"""


@dataclass(frozen=True, kw_only=True)
class Client:
    """A built client: its folder, and the command that runs it there."""

    folder: Path
    command: tuple[str, ...]


def readme_blocks(kind: str) -> list[str]:
    text = (CLIENTS / "README.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def build_client(language: str, into: Path) -> Client | str:
    """Build a copy of a client by the commands of the README, or say why it cannot be built."""
    for tool in TOOLS[language]:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    made_before = shutil.ignore_patterns("build", "dist", "node_modules")
    shutil.copytree(CLIENTS / language, into / language, ignore=made_before)
    if language == "typescript":
        (page,) = readme_blocks("ts")
        (into / language / "src" / "page.ts").write_text(PAGE_HEAD + page)
    (block,) = (block for block in readme_blocks("sh") if block.startswith(f"cd {language}\n"))
    _, *steps, last = block.splitlines()
    for index, step in enumerate(steps):
        done = subprocess.run(
            ["bash", "-c", step],
            check=False,
            cwd=into / language,
            env=os.environ | NPM,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        said = f"{step}: {(done.stdout + done.stderr)[-3000:]}"
        if done.returncode and index == 0 and re.search(LACKS.get(language, "$^"), said):
            return f"what the client needs is not installed: {said}"
        assert done.returncode == 0, said
    command, _, arguments = last.partition(" predict ")
    assert arguments == "MODEL FILE.csv"
    return Client(folder=into / language, command=tuple(shlex.split(command)))


@dataclass(frozen=True, kw_only=True)
class Here:
    """The site, and what clients of it need."""

    site: Site
    port: int
    key: str
    storage_uri: str
    recording: Stream
    csv: Path


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Client]:
    """Builds a client, once; skips where that cannot be done here."""
    folder = tmp_path_factory.mktemp("clients")
    build_once = functools.cache(lambda language: build_client(language, folder))

    def built(language: str) -> Client:
        client = build_once(language)
        if isinstance(client, str):
            pytest.skip(client)
        return client

    return built


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("site")
    found = settings.load(
        home=folder / "home",
        storage_uri=str(folder / "storage"),
        accounts_uri=f"sqlite:///{folder}/home/accounts/accounts.db",
    )
    stream = real_stream()
    release(found.storage_uri, MODEL)
    accounts = open_accounts(found)
    site = Site(found.storage_uri, accounts, (MODEL, *map(late_model, ALL)))
    key = accounts.create_key("clients").secret
    with serving_app(site) as live:
        yield Here(
            site=site,
            port=live.port,
            key=key,
            storage_uri=found.storage_uri,
            recording=stream,
            csv=write_csv(folder / "recording.csv", stream),
        )
    accounts.close()


def real_stream() -> Stream:
    """Half a minute of a smartwatch."""
    with WatchExercises().open(0) as recording:
        (samples,) = recording.samples
    return Stream(
        name="imu",
        rate_hz=50.0,
        channels=samples.channels,
        time_s=samples.time_s[:NUM_SAMPLES],
        values_TC=samples.values_TC[:NUM_SAMPLES],
    )


def release(storage_uri: str, model: str) -> None:
    """A model of real windows, with a context, whose probabilities are not all 0 or 1."""
    names = [f"{sensor}_{axis}" for sensor in ("acc", "gyr") for axis in "xyz"]
    channels = [
        Channel(name=name, unit="m/s^2" if name.startswith("acc") else "rad/s") for name in names
    ]
    sensors = SensorInput(
        channels=tuple(channels), rate_hz=50.0, length_s=2.0, hop_s=1.0, context_s=0.5
    )
    normaliser = Normaliser(mean=(0.0,) * 6, std=(500.0,) * 6)
    signature = Signature(
        inputs=(sensors,),
        outputs=(ClassesOutput(classes=CLASSES),),
        preprocessing=Preprocessing(normaliser=normaliser),
    )
    graph = small_graph((0.0, 0.0, 0.0), num_samples=sensors.num_samples, num_channels=6)
    release_small(storage_uri, model, 1, graph=graph, signature=signature)


def late_model(language: str) -> str:
    """The name of a model that is not released until a client of this language has asked."""
    return f"late-{language}"


def write_csv(path: Path, stream: Stream, without: str = "") -> Path:
    """Channels in another order than the model's, and a column of times."""
    columns = [index for index, item in enumerate(stream.channels) if item.name != without][::-1]
    lines = [",".join(["time_s", *(stream.channels[index].name for index in columns)])]
    for time_s, values_C in zip(stream.time_s, stream.values_TC, strict=True):
        lines.append(",".join([f"{time_s:g}", *(str(values_C[index]) for index in columns)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def ask(
    client: Client, *arguments: object, key: str, port: int
) -> subprocess.CompletedProcess[str]:
    done = start(client, *arguments, key=key, port=port)
    out, err = done.communicate(timeout=TIMEOUT_S)
    assert key not in out + err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def start(client: Client, *arguments: object, key: str, port: int) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOTORIC_")}
    return subprocess.Popen(
        [*client.command, *map(str, arguments)],
        cwd=client.folder,
        env=kept | {"MOTORIC_URL": f"http://127.0.0.1:{port}", "MOTORIC_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_predictions(here: Here, output: str) -> None:
    """Each line is what the predictor says about the window, in order, none missing or doubled."""
    predictor = Predictor.load(f"{here.storage_uri}/artefacts/{MODEL}/1")
    windower = Windower(native_rate_hz=50, rate_hz=50, length_s=2, hop_s=1, context_s=0.5)
    windows = windower.push(here.recording.time_s, here.recording.values_TC) + windower.finish()
    expected_BK = predictor.predict(np.stack([window.values_TC for window in windows]))
    labels = [CLASSES[best] for best in expected_BK.argmax(axis=1)]
    assert len(set(labels)) > 1, "the recording tells too little about the model"
    rows = [line.split("\t") for line in output.splitlines()]
    assert [row[2] for row in rows] == labels
    given = [tuple(map(float, row[:2])) for row in rows]
    assert given == [(window.start_s, window.end_s) for window in windows]
    for row, values_K in zip(rows, expected_BK, strict=True):
        assert float(row[3]) == pytest.approx(values_K.max(), abs=2e-6)
        parts = dict(cell.rsplit("=", 1) for cell in row[4:])
        assert tuple(parts) == CLASSES
        assert [float(part) for part in parts.values()] == pytest.approx(values_K, abs=2e-6)


def check_error(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode == 2, done.stderr
    for part in says:
        assert part in done.stderr
    assert done.stdout == ""


def test_the_lock_file_of_npm_names_no_host():
    lock = (CLIENTS / "typescript" / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert "resolved" not in lock
    assert "://" not in lock


@pytest.mark.parametrize("language", ALL)
def test_models_are_listed_and_a_signature_is_read(build, here, language):
    client = build(language)
    done = ask(client, "models", key=here.key, port=here.port)
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}\t1" in done.stdout.splitlines()
    done = ask(client, "show", MODEL, key=here.key, port=here.port)
    assert done.returncode == 0, done.stderr
    assert "50" in done.stdout


@pytest.mark.parametrize("language", ALL)
def test_predictions_of_a_file_are_those_of_the_predictor(build, here, language):
    done = ask(build(language), "predict", MODEL, here.csv, key=here.key, port=here.port)
    assert done.returncode == 0, done.stderr
    check_predictions(here, done.stdout)


@pytest.mark.parametrize("language", LIVE)
def test_a_live_stream_gives_what_predict_gives(build, here, language):
    done = ask(build(language), "stream", MODEL, here.csv, key=here.key, port=here.port)
    assert done.returncode == 0, done.stderr
    check_predictions(here, done.stdout)


@pytest.mark.parametrize("language", LIVE)
def test_a_stream_that_is_cut_off_again_and_again_misses_and_doubles_nothing(build, here, language):
    cuts = CUTS[language]
    with CuttingProxy(here.port, cuts, counts_requests=False) as proxy:
        done = ask(build(language), "stream", MODEL, here.csv, key=here.key, port=proxy.port)
    assert done.returncode == 0, done.stderr
    assert (proxy.num_cuts, proxy.num_streams) == (len(cuts), len(cuts) + 1)
    check_predictions(here, done.stdout)


@pytest.mark.parametrize("language", ALL)
def test_a_wrong_key_is_said_and_not_shown(build, here, language):
    client, secret = build(language), "mk_0_neverGiven"
    for arguments in (("models",), ("predict", MODEL, here.csv)):
        check_error(ask(client, *arguments, key=secret, port=here.port), "API key is not known")
    if language in LIVE:
        done = ask(client, "stream", MODEL, here.csv, key=secret, port=here.port)
        check_error(done, "API key is not known")


@pytest.mark.parametrize("language", ALL)
def test_windows_of_a_wrong_shape_are_told_in_the_servers_words(build, here, language, tmp_path):
    client = build(language)
    csv = write_csv(tmp_path / "less.csv", here.recording, without="gyr_z")
    kinds = ("predict", "stream") if language in LIVE else ("predict",)
    for kind in kinds:
        done = ask(client, kind, MODEL, csv, key=here.key, port=here.port)
        check_error(done, "channel gyr_z is missing", "the model has acc_x")


@pytest.mark.parametrize("language", ALL)
def test_a_file_that_is_no_table_of_numbers_is_told(build, here, language, tmp_path):
    lines = here.csv.read_text().splitlines()
    csv = tmp_path / "damaged.csv"
    time_s, _, *rest = lines[3].split(",")
    damages = (
        (lines[3] + ",1", "line 4 has 8 cells, the first line 7"),
        (",".join([time_s, "much", *rest]), "line 4 holds 'much'"),
    )
    for damaged, says in damages:
        csv.write_text("\n".join([*lines[:3], damaged, *lines[4:]]))
        done = ask(build(language), "predict", MODEL, csv, key=here.key, port=here.port)
        check_error(done, says)


@pytest.mark.parametrize("language", ALL)
def test_a_model_that_is_still_loading_is_waited_for(build, here, language):
    client, model = build(language), late_model(language)
    while not here.site.statuses.empty():
        here.site.statuses.get()
    asking = start(client, "predict", model, here.csv, key=here.key, port=here.port)
    assert here.site.statuses.get(timeout=TIMEOUT_S) == (model, 503)
    release(here.storage_uri, model)
    out, err = asking.communicate(timeout=TIMEOUT_S)
    assert asking.returncode == 0, err
    check_predictions(here, out)


@pytest.mark.parametrize("language", ALL)
def test_a_server_that_is_not_there_is_said(build, here, language):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = ask(build(language), "models", key=here.key, port=port)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
