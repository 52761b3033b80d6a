from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from motoric.cluster.definition import load_definition
from motoric.core.errors import SettingsError
from motoric.core.settings import load, read_profile

CLUSTER_FILE = Path(__file__).parents[2] / "cluster.yaml"


def test_the_definition_passes_rays_schema_and_its_launchers_checks():
    definition = load_definition(CLUSTER_FILE)
    prepared = prepare_config(deepcopy(definition))
    validate_config(prepared)
    assert prepared["provider"]["type"] == "aws"


def test_gpu_nodes_are_spot_and_none_runs_idle():
    types = load_definition(CLUSTER_FILE)["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert all(node["min_workers"] == 0 for node in types.values())


def test_the_setup_of_gpu_nodes_is_the_common_one_and_gpu_packages():
    definition = load_definition(CLUSTER_FILE)
    *gpu, install, runtime = definition["available_node_types"]["gpu"]["worker_setup_commands"]
    *common, _ = definition["setup_commands"]
    assert gpu == common
    assert ".[train,gpu]" in install
    assert "onnxruntime-gpu" in runtime


def test_every_node_gets_the_token_and_starts_with_the_clouds_environment():
    definition = load_definition(CLUSTER_FILE)
    assert "~/.ray/auth_token" in definition["file_mounts"]
    for kind in ("head", "worker"):
        start = definition[f"{kind}_start_ray_commands"][-1]
        assert "motoric cluster env --profile cloud" in start
        assert start.startswith("set -e;")


def placeholders(content: object, place: str = "") -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from placeholders(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, str) and "CHANGE-ME" in content:
        yield place


def test_what_is_to_be_filled_in_is_named():
    assert list(placeholders(load_definition(CLUSTER_FILE))) == [
        "available_node_types.head.node_config.ImageId",
        "available_node_types.cpu.node_config.ImageId",
        "available_node_types.cpu.node_config.IamInstanceProfile.Name",
        "available_node_types.gpu.node_config.ImageId",
        "available_node_types.gpu.node_config.IamInstanceProfile.Name",
        "metadata.motoric.profiles.cloud.storage_uri",
    ]


def test_an_unknown_key_is_named(tmp_path):
    content = yaml.safe_load(CLUSTER_FILE.read_text())
    content["available_node_types"]["gpu"]["min_worker"] = 1
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=r"available_node_types\.gpu.*min_worker"):
        load_definition(path)


def test_a_missing_definition_is_named(tmp_path):
    with pytest.raises(SettingsError, match="no cluster definition"):
        load_definition(tmp_path / "cluster.yaml")


def test_the_local_profile_fills_in_the_home(tmp_path):
    settings = load(home=tmp_path, cluster_file=CLUSTER_FILE)
    assert settings.storage_uri == f"{tmp_path}/storage"
    assert settings.accounts_uri == f"sqlite:///{tmp_path}/accounts/accounts.db"
    assert (settings.ports.http, settings.num_cpus) == (8000, None)


def test_a_placeholder_left_in_the_chosen_profile_is_an_error():
    with pytest.raises(SettingsError, match=r"storage_uri is still the placeholder"):
        read_profile(CLUSTER_FILE, "cloud")


def test_an_unknown_profile_names_those_that_exist():
    with pytest.raises(SettingsError, match=r"no profile 'prod'.*local, cloud"):
        read_profile(CLUSTER_FILE, "prod")
