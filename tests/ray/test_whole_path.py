"""The README's commands in order, on the real recordings: dataset, training, endpoint, job."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from motoric.cli.main import main
from motoric.cluster import local
from motoric.cluster.credentials import read_key
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings
from motoric.registry.registry import Registry

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("seglearn") is None,
        reason="the extra `demo` (seglearn) is not installed",
    ),
]

ROOT = Path(__file__).parents[2]
RECIPE = "jobs/recipes/watch_gru.yaml"
NAME = "watch-exercises"
# Long enough to see that it learns, short enough for a test.
QUICK = ["--set", "train.epochs=2", "--set", "window.hop_s=2.0"]
JOB_TIMEOUT_S = 300


@pytest.fixture(scope="module", autouse=True)
def _in_the_repository(platform_state: PlatformState) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


@pytest.fixture(scope="module")
def trained() -> str:
    """The real recordings as a dataset, and a version of the model trained on them."""
    assert main(["datasets", "build", NAME]) == 0
    assert main(["train", RECIPE, *QUICK]) == 0
    return NAME


@pytest.fixture(scope="module")
def deployed(trained: str) -> str:
    assert main(["deploy", trained]) == 0
    return trained


@pytest.fixture
def recording(trained: str, tmp_path: Path) -> Path:
    path = tmp_path / "recording with spaces ü.csv"
    assert main(["datasets", "export", NAME, "watch-005", "--out", str(path)]) == 0
    return path


def predict(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capfd.readouterr()
    assert main(["predict", NAME, *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_an_unchanged_dataset_is_reused(trained: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert main(["datasets", "build", NAME]) == 0
    assert "reused" in capfd.readouterr().out


def test_training_leaves_a_registered_model_with_figures_of_unseen_people(
    trained: str, platform_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    found = registry.by_alias(trained, "champion")
    metrics = json.loads((Path(found.artefact_uri) / "metrics.json").read_text())
    # Seven classes: guessing gives 14 %.
    assert metrics["accuracy"] > 0.4
    assert metrics["num_subjects"] == len(metrics["subjects"]) == 3
    report = Path(platform_settings.storage_uri, "runs", found.figures["run"], "report")
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")
    capfd.readouterr()
    assert main(["models", "list"]) == 0
    assert main(["models", "show", trained]) == 0
    shown = capfd.readouterr().out
    assert "champion" in shown
    assert "acc_x [m/s^2]" in shown
    assert found.digest[:19] in shown


def test_the_endpoint_says_what_the_artefact_says(
    deployed: str, recording: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    over_http = predict(capfd, str(recording))
    in_process = predict(capfd, str(recording), "--local")
    assert len(over_http["predictions"]) > 10
    assert over_http["digest"] == in_process["digest"]
    for one, other in zip(over_http["predictions"], in_process["predictions"], strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=2e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert main(["predict", NAME, str(recording)]) == 0
    assert "over all" in capfd.readouterr().out


def test_a_users_mistakes_with_the_endpoint_exit_with_2(
    deployed: str,
    recording: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording.write_text("\n".join(recording.read_text().splitlines()[:50]))
    assert main(["predict", NAME, str(recording)]) == 2
    assert "49 samples at 50 Hz: one window of 4 s needs 200" in capfd.readouterr().err
    assert main(["predict", "no-such-model", str(recording)]) == 2
    assert "no-such-model" in capfd.readouterr().err
    monkeypatch.setenv("MOTORIC_API_KEY", "mk_0_wrong")
    assert main(["predict", NAME, str(recording)]) == 2
    assert "not known" in capfd.readouterr().err


def test_a_recipe_that_asks_too_much_is_refused_at_once(
    trained: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", RECIPE, "--set", "resources.num_workers=500"]) == 2
    assert "500 worker(s) need 500 CPU, the cluster has 8" in capfd.readouterr().err


def test_an_error_in_a_worker_comes_back_as_one_message(
    trained: str, platform_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    hot = ["optimiser.learning_rate=1e30", "optimiser.max_grad_norm=1e30", "train.epochs=1"]
    overrides = [item for value in hot for item in ("--set", value)]
    before = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    num_versions = len(before.versions(trained))
    assert main(["train", RECIPE, *overrides]) == 2
    error = capfd.readouterr().err
    assert "lower optimiser.learning_rate" in error
    assert "Traceback" not in error
    assert len(before.versions(trained)) == num_versions


def test_ray_job_submit_trains_and_the_endpoint_follows(
    deployed: str, platform_state: PlatformState, platform_settings: Settings
) -> None:
    registry = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    before = registry.by_alias(NAME, "champion").version
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    command += ["--", "python", "jobs/train.py", RECIPE, *QUICK]
    done = _run(command, platform_state, JOB_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 2/2" in done.stdout
    assert f"registered {NAME} version {before + 1} (champion)" in done.stdout
    assert registry.by_alias(NAME, "champion").version == before + 1
    health = f"{platform_settings.base_url}/v1/models/{NAME}/healthz"
    with httpx.Client(trust_env=False) as client:
        for _ in range(200):
            if client.get(health).json()["version"] == before + 1:
                break
            _wait_a_moment()
        else:
            pytest.fail("the endpoint did not follow the alias")


def test_serve_deploy_puts_the_endpoints_up(
    trained: str, platform_state: PlatformState, platform_settings: Settings
) -> None:
    command = [sys.executable, "-m", "ray.serve.scripts", "deploy", "deployments/serve.yaml"]
    done = _run(command, platform_state, 120)
    assert done.returncode == 0, done.stdout + done.stderr
    key = read_key(platform_settings)
    with httpx.Client(base_url=platform_settings.base_url, trust_env=False, timeout=20) as client:
        for _ in range(300):
            if client.get(f"/v1/models/{NAME}/healthz").status_code == 200:
                break
            _wait_a_moment()
        assert client.get("/v1/models").status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        models = client.get("/v1/models").json()["models"]
        assert NAME in [model["model"] for model in models]
        document = client.get(f"/v1/models/{NAME}/openapi.json").json()
        (path,) = [path for path in document["paths"] if path.endswith("/predict")]
        request = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        example = request["example"]
        answer = client.post(f"/v1/models/{NAME}/predict", json=example)
        assert answer.status_code == 200
        assert set(answer.json()) == {"model", "version", "digest", "predictions"}


def _run(
    command: list[str], state: PlatformState, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | local.client_environment(state) | {"NO_COLOR": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _wait_a_moment() -> None:
    time.sleep(0.1)
