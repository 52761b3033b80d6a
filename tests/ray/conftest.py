"""One local platform for all tests here; it has its own home, settings folder and ports."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from motoric.cluster import local, processes
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings, load


def free_ports(count: int) -> list[int]:
    """Free ports on loopback, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def own_environment(folder: Path) -> dict[str, str]:
    """Variables of a platform that shares nothing with others on this machine."""
    http, grpc, dashboard, gcs = free_ports(4)
    return {
        "MOTORIC_HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "MOTORIC_PORTS__HTTP": str(http),
        "MOTORIC_PORTS__GRPC": str(grpc),
        "MOTORIC_PORTS__DASHBOARD": str(dashboard),
        "MOTORIC_PORTS__GCS": str(gcs),
        "MOTORIC_NUM_GPUS": "2",  # logical: enough to see how fractions are packed
    }


@pytest.fixture(scope="session")
def platform_environment() -> Iterator[dict[str, str]]:
    """The variables that choose this platform, for a shell of a test."""
    # Short: Ray's and HAProxy's sockets lie below.
    folder = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    yield own_environment(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def _choose_the_platform(platform_environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform_environment.items():
            patch.setenv(name, value)
        for name in ("MOTORIC_URL", "MOTORIC_API_KEY", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def platform_settings(platform_environment: dict[str, str]) -> Settings:
    """The settings of the platform that the tests share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform_environment.items():
            patch.setenv(name, value)
        return load()


@pytest.fixture(scope="session")
def platform_state(
    platform_settings: Settings, platform_environment: dict[str, str]
) -> Iterator[PlatformState]:
    """A running local platform; every test here may share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", platform_environment["XDG_CONFIG_HOME"])
        state = local.up(platform_settings)
    mine = processes.find(state.instance_id)
    try:
        yield state
    finally:
        mine += processes.find(state.instance_id)
        local.down(platform_settings)
    assert [process for process in mine if _lives(process)] == []
    assert not state.folder.exists()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def own_settings(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a platform apart from the shared one, for tests that break it."""
    for name, value in own_environment(short_folder).items():
        monkeypatch.setenv(name, value)
    return load()


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
