"""The local platform for real: up, what listens, jobs, what is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from motoric.cli import platform as commands
from motoric.cluster import local, processes
from motoric.cluster.credentials import read_key
from motoric.cluster.serve_api import ServeApi
from motoric.cluster.session import ray_session
from motoric.cluster.state import PlatformState, read_state
from motoric.core.errors import MotoricError
from motoric.core.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

# Submitted from a folder that holds a folder `platform`, as this repository does.
JOB = """
import os, platform, time
import httpx
import motoric
import ray
from ray import serve

@ray.remote(num_cpus=0)
def in_a_worker():
    import platform, motoric
    return platform.python_version()

@serve.deployment(ray_actor_options={"num_cpus": 0})
class InAReplica:
    def __call__(self):
        import platform, motoric
        return platform.python_version()

ray.init(address=os.environ["RAY_ADDRESS"])
print("worker", ray.get(in_a_worker.remote()))
serve.run(InAReplica.bind(), name="probe", route_prefix="/probe")
deadline_s = time.monotonic() + 30
while (answer := httpx.get(os.environ["MOTORIC_URL"] + "/probe")).status_code != 200:
    assert time.monotonic() < deadline_s, answer.text
    time.sleep(0.1)
print("replica", answer.text)
serve.delete("probe")
print("driver", platform.python_version(), "done")
"""


def haproxies(state: PlatformState) -> list[psutil.Process]:
    return [process for process in processes.find(state.instance_id) if process.name() == "haproxy"]


def test_the_endpoints_are_healthy_and_the_command_line_has_a_key(
    platform_state: PlatformState, platform_settings: Settings
):
    assert httpx.get(f"{platform_state.http_url}/healthz").status_code == 200
    models = f"{platform_state.http_url}/v1/models"
    assert httpx.get(models).status_code == 401
    key = read_key(platform_settings)
    assert httpx.get(models, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_up_again_changes_nothing(platform_state: PlatformState, platform_settings: Settings):
    before = {process.pid for process in haproxies(platform_state)}
    key = read_key(platform_settings)
    stages: list[str] = []
    assert local.up(platform_settings, on_stage=stages.append) == platform_state
    assert stages == []
    assert {process.pid for process in haproxies(platform_state)} == before
    assert read_key(platform_settings) == key


def test_nothing_listens_beyond_loopback(platform_state: PlatformState):
    assert haproxies(platform_state)
    assert local.open_sockets(platform_state) == []


def test_the_dashboard_wants_the_token(platform_state: PlatformState):
    jobs = f"{platform_state.dashboard_url}/api/jobs/"
    assert httpx.get(jobs).status_code == 401
    token = platform_state.token_path.read_text()
    assert httpx.get(jobs, headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.long
def test_a_job_beside_a_platform_folder_imports_both_platforms(
    platform_state: PlatformState, short_folder: Path
):
    (short_folder / "platform" / "motoric").mkdir(parents=True)
    (short_folder / "job.py").write_text(JOB)
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    finished = subprocess.run(
        [*submit, "--working-dir", str(short_folder), "--", "python", "job.py"],
        env=os.environ | local.client_environment(platform_state),
        cwd=short_folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    version = ".".join(str(part) for part in sys.version_info[:3])
    assert f"worker {version}" in output
    assert f"replica {version}" in output
    assert f"driver {version} done" in output


def test_a_session_joins_the_running_platform(
    platform_state: PlatformState, platform_settings: Settings
):
    with ray_session(platform_settings) as address:
        assert address == platform_state.ray_address
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(platform_state.token_path)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_the_commands_tell_where_things_are(platform_state: PlatformState):
    app = commands.typer.Typer()
    app.command()(commands.status)
    app.command()(commands.env)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0, shown.output
    assert "platform" in shown.output
    assert "RUNNING" in shown.output
    exports = CliRunner().invoke(app, ["env"]).output.splitlines()
    assert f"export RAY_ADDRESS={platform_state.dashboard_url}" in exports
    assert all(line.startswith("export ") for line in exports)


def test_a_start_that_is_interrupted_leaves_nothing(own_settings: Settings):
    seen: list[PlatformState] = []

    def interrupt(stage: str) -> None:
        if stage == "starting the endpoints":
            state = read_state(own_settings)
            assert state is not None
            assert processes.find(state.instance_id)
            seen.append(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.up(own_settings, on_stage=interrupt)
    (state,) = seen
    assert processes.find(state.instance_id) == []
    assert not state.folder.exists()
    assert not state.token_path.exists()
    assert read_state(own_settings) is None


@pytest.mark.long
def test_an_application_that_fails_ends_the_start_and_leaves_nothing(own_settings: Settings):
    broken = {"name": "platform", "import_path": "nowhere.to_be:found", "route_prefix": "/"}
    with pytest.raises(MotoricError, match=r"nowhere"):
        local.up(own_settings, application=broken)
    assert read_state(own_settings) is None


@pytest.mark.long
def test_up_recovers_from_a_killed_raylet_and_down_from_a_killed_gcs(own_settings: Settings):
    state = local.up(own_settings)
    try:
        os.kill(state.raylet_pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(state.raylet_pid)], timeout=10)
        assert local.running(own_settings) is None
        again = local.up(own_settings)
        assert again.instance_id != state.instance_id
        assert processes.find(state.instance_id) == []
        assert httpx.get(f"{again.http_url}/healthz").status_code == 200
        os.kill(again.gcs_pid, signal.SIGKILL)
    finally:
        local.down(own_settings)
    assert processes.find(again.instance_id) == []


@pytest.mark.long
def test_a_session_without_a_platform_starts_and_ends_a_ray_of_its_own(own_settings: Settings):
    with ray_session(own_settings, num_cpus=1) as address:
        import ray

        assert address.startswith("127.0.0.1:")
        assert ray.cluster_resources()["CPU"] == 4
    assert not ray.is_initialized()


def test_declared_applications_can_be_put_again(platform_state: PlatformState):
    with ServeApi(platform_state.dashboard_url, platform_state.token_path) as api:
        assert [app["name"] for app in api.declared()] == ["platform"]
