from pathlib import Path

import pytest

from motoric.cluster import environment
from motoric.cluster.environment import Places
from motoric.cluster.ports import NUM_REPLICA_PORTS, InternalPorts
from motoric.core.settings import Settings, load

PORTS = InternalPorts(
    **{name: 1000 + i for i, name in enumerate(InternalPorts.__dataclass_fields__)}
)
PLACES = Places(
    instance_id="abc",
    folder=Path("/home/ada/.motoric/ray"),
    token_path=Path("/home/ada/.motoric/run/token"),
    python=Path("/venv/bin/python"),
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return load(home=tmp_path, cluster_file=Path(__file__).parents[2] / "cluster.yaml")


def test_the_head_carries_its_instance_token_and_serve_options(settings):
    found = environment.head_environment(settings, PORTS, PLACES, {})
    assert found["MOTORIC_INSTANCE"] == "abc"
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert found["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert found["MOTORIC_STORAGE_URI"] == settings.storage_uri


def test_messages_over_grpc_are_bounded_on_every_node(settings):
    local = environment.head_environment(settings, PORTS, PLACES, {})
    for found in (local, environment.node_environment(settings)):
        largest = int(found["RAY_SERVE_GRPC_MAX_MESSAGE_SIZE"])
        assert largest == 32 * 2**20
        # A call between replicas bears such a message.
        assert int(found["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) > largest


def test_telemetry_is_off_even_where_the_shell_turned_it_on(settings):
    shell = {"RAY_USAGE_STATS_ENABLED": "1", "MLFLOW_DISABLE_TELEMETRY": "false"}
    found = environment.head_environment(settings, PORTS, PLACES, shell)
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"
    assert found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert found["DO_NOT_TRACK"] == "1" or found["DO_NOT_TRACK"] == "true"


def test_addresses_and_secrets_of_the_shell_do_not_reach_the_head(settings):
    shell = {
        "RAY_ADDRESS": "http://elsewhere",
        "RAY_AUTH_TOKEN": "another",
        "MOTORIC_API_KEY": "mk_secret",
    }
    found = environment.head_environment(settings, PORTS, PLACES, shell)
    assert not shell.keys() & found.keys()


def test_tuning_of_the_shell_is_kept(settings):
    shell = {"RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "60"}
    found = environment.head_environment(settings, PORTS, PLACES, shell)
    assert found["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "60"


def test_jobs_find_the_heads_python_first(settings):
    found = environment.head_environment(settings, PORTS, PLACES, {"PATH": "/usr/bin"})
    assert found["PATH"] == "/venv/bin:/usr/bin"


def test_replica_ports_of_http_and_grpc_do_not_overlap(settings):
    found = environment.head_environment(settings, PORTS, PLACES, {})
    bounds = [
        int(found[f"RAY_SERVE_DIRECT_INGRESS_{end}_{kind}_PORT"])
        for kind in ("HTTP", "GRPC")
        for end in ("MIN", "MAX")
    ]
    assert bounds == sorted(bounds)
    assert bounds[1] - bounds[0] == NUM_REPLICA_PORTS - 1


def test_the_head_binds_loopback_and_keeps_to_its_own_folder(settings):
    options = environment.head_options(settings, PORTS, PLACES)
    assert "--dashboard-host=127.0.0.1" in options
    assert f"--temp-dir={PLACES.folder}/t" in options
    assert "--num-cpus=8" in options


def test_a_shell_gets_the_token_by_path_and_never_by_value():
    found = environment.client_environment("http://127.0.0.1:8265", PLACES.token_path)
    assert found["RAY_AUTH_TOKEN_PATH"] == str(PLACES.token_path)
    assert "RAY_AUTH_TOKEN" not in found
    assert "MOTORIC_INSTANCE" not in found  # `down` would end the shell


def test_a_node_of_the_cloud_has_no_loopback_and_no_secret(settings):
    found = environment.node_environment(settings)
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in found
    assert not any("KEY" in name for name in found)
