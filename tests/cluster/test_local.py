import os
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from motoric.cluster import folders, local, ports, processes
from motoric.cluster.state import PlatformState, read_state, state_path, write_state
from motoric.core.errors import SettingsError
from motoric.core.settings import Ports, Settings, load


@pytest.fixture
def settings(tmp_path) -> Settings:
    return load(home=tmp_path, ports=Ports(http=18_000, grpc=19_000, dashboard=18_265, gcs=16_379))


def stale(settings: Settings, **changes: object) -> PlatformState:
    """A state whose processes are gone (or are somebody else's by now)."""
    run = folders.run_folder(settings.home)
    run.mkdir(parents=True)
    values: dict[str, object] = {
        "instance_id": "gone",
        "ray_address": "127.0.0.1:16379",
        "dashboard_url": "http://127.0.0.1:18265",
        "http_url": "http://127.0.0.1:18000",
        "folder": settings.home / "ray",
        "temp_dir": settings.home / "ray" / "t",
        "token_path": run / "token",
        "started_at_s": 0.0,
        "gcs_pid": os.getpid(),
        "raylet_pid": os.getpid(),
    }
    state = PlatformState(**(values | changes))  # type: ignore[arg-type]
    write_state(settings, state)
    return state


def test_nothing_runs_without_a_state_file(settings):
    assert local.running(settings) is None
    assert local.down(settings) == 0


def test_a_recycled_process_id_does_not_pass_for_the_platform(settings):
    stale(settings)
    assert local.running(settings) is None


def test_down_clears_a_stale_state_and_ends_nobody(settings):
    state = stale(settings)
    state.temp_dir.mkdir(parents=True)
    assert local.down(settings) == 0
    assert not state.folder.exists()
    assert read_state(settings) is None


def test_a_state_file_cut_off_in_the_middle_counts_as_none(settings):
    stale(settings)
    state_path(settings).write_text('{"instance_id": "go')
    assert read_state(settings) is None
    assert local.running(settings) is None


def test_the_state_survives_the_file(settings):
    state = stale(settings)
    assert read_state(settings) == state


@pytest.mark.parametrize("name", ["http", "dashboard", "gcs"])
def test_a_taken_port_names_the_port_and_the_setting(tmp_path, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = {"http": 18_000, "dashboard": 18_265, "gcs": 16_379}
        settings = load(home=tmp_path, ports=Ports(**(free | {name: port})))
        with pytest.raises(SettingsError, match=rf"port {port} .*MOTORIC_PORTS__{name.upper()}="):
            local.up(settings)
    assert not state_path(settings).exists()


def test_no_port_is_picked_that_is_fixed_and_not_yet_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = iter([40_001, 40_002, 40_003, *range(41_000, 41_100)])

    class Offering:
        """A socket whose port is the next that a busy machine happens to have free."""

        def bind(self, _address: tuple[str, int]) -> None:
            self.port = next(offered)

        def getsockname(self) -> tuple[str, int]:
            return ports.LOOPBACK, self.port

        def __enter__(self) -> "Offering":
            return self

        def __exit__(self, *error: object) -> None:
            return

    monkeypatch.setattr(ports.socket, "socket", Offering)
    monkeypatch.setattr(ports, "is_free", lambda _port: True)
    fixed = Ports(http=40_001, dashboard=40_002, gcs=40_003, grpc=40_004)
    picked = asdict(ports.pick(fixed))
    assert not {40_001, 40_002, 40_003, 40_004} & set(picked.values())
    assert len(set(picked.values())) == len(picked)


def test_picked_ports_are_free_and_all_different():
    picked = ports.pick(Ports())
    values = [getattr(picked, name) for name in ports.InternalPorts.__dataclass_fields__]
    assert len(set(values)) == len(values)
    assert all(ports.is_free(value) for value in values)


def test_a_short_home_holds_rays_folder_and_a_long_one_gets_a_short_private_one():
    assert folders.choose_folder(Path("/home/ada/.motoric")) == Path("/home/ada/.motoric/ray")
    long_home = Path("/home") / ("a" * 100)
    chosen = folders.choose_folder(long_home)
    assert len(str(chosen)) <= folders.MAX_FOLDER_LENGTH
    assert str(os.getuid()) in chosen.name
    assert chosen == folders.choose_folder(long_home)
    assert chosen != folders.choose_folder(long_home / "b")


def test_a_private_folder_is_closed_even_where_it_existed_open(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folders.make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_place_of_a_private_folder_is_refused(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(SettingsError, match="not a folder of yours"):
        folders.make_private(tmp_path / "link")


def test_a_token_is_new_each_time_and_only_its_owners(tmp_path):
    path = tmp_path / "token"
    folders.write_token(path)
    first = path.read_text()
    folders.write_token(path)
    assert path.read_text() != first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("::ffff:10.1.2.3", False),
    ],
)
def test_loopback_is_known_in_all_its_forms(ip, expected):
    assert processes.is_loopback(ip) is expected
