from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from motoric.core.errors import SettingsError
from motoric.serving.config import (
    ModelDeployment,
    config_of,
    load_deployment,
    load_deployments,
    merge,
    render,
    serve_config,
)

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"


def deployment_file(folder: Path, content: str, name: str = "small") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(content)
    return path


def test_the_committed_serve_config_is_up_to_date():
    made = render(serve_config(load_deployments(DEPLOYMENTS / "models")))
    assert (DEPLOYMENTS / "serve.yaml").read_text() == made, (
        "run `python -m motoric.serving.config deployments`"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own models, at import
def test_ray_accepts_the_serve_config():
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load((DEPLOYMENTS / "serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(config)
    assert [app.route_prefix for app in schema.applications] == ["/", "/v1/models/watch-exercises"]


def test_the_file_comments_name_the_defaults_that_hold():
    written = load_deployment(DEPLOYMENTS / "models" / "watch-exercises.yaml").model_dump()
    defaults = ModelDeployment(model="watch-exercises").model_dump()
    differs = {key for key in defaults if defaults[key] != written[key]}
    assert differs == {"cpu", "replicas"}  # marked with their defaults in the file


def test_a_model_is_all_a_file_needs(tmp_path):
    deployment = load_deployment(deployment_file(tmp_path, "model: small"))
    assert (deployment.alias, deployment.replicas.min) == ("champion", 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model: small\ngpus: 1", "unknown key gpus"),
        ("model: small\nreplicas: {minimum: 1}", "unknown key replicas.minimum"),
        ("model: small\nreplicas: {min: 3, max: 2}", "min (3) is above max (2)"),
        ("model: small\ngpu: 1.5", "whole number"),
        ("model: small\ncpu: two", "cpu"),
        ("model: Small", "not a model name"),
        ("model: other", "named for 'small'"),
        ("model: [", "not valid YAML"),
        ("- model", "keys and values"),
        ("", "keys and values"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, content, says):
    path = deployment_file(tmp_path, content)
    with pytest.raises(SettingsError) as caught:
        load_deployment(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nothing"):
        load_deployment(tmp_path / "nothing.yaml")


def test_two_applications_never_share_a_name():
    model = ModelDeployment(model="small")
    with pytest.raises(SettingsError, match="small"):
        serve_config([model, model])
    platform = ModelDeployment(model="platform")
    with pytest.raises(SettingsError, match="platform"):
        serve_config([platform])
    with pytest.raises(SettingsError, match="platform"):
        merge(serve_config([]), platform)


def test_merging_adds_or_replaces_one_model_and_drops_nothing():
    one, two = ModelDeployment(model="one"), ModelDeployment(model="two")
    running = serve_config([one], http_port=8123, grpc_port=9123)
    running["applications"].append({"name": "theirs", "import_path": "a:b", "route_prefix": "/x"})
    before = yaml.safe_dump(running)
    added = merge(running, two)
    names = [app["name"] for app in added["applications"]]
    assert names == ["platform", "one", "theirs", "two"]
    assert (added["http_options"]["port"], added["grpc_options"]["port"]) == (8123, 9123)
    changed = merge(added, one.model_copy(update={"cpu": 2.0}))
    assert [app["name"] for app in changed["applications"]] == names
    assert changed["applications"][1]["args"]["cpu"] == 2.0
    assert yaml.safe_dump(running) == before


def test_what_serve_reports_becomes_the_config_it_was_given():
    config = serve_config([ModelDeployment(model="one")])
    details = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8000, "root_path": ""},
        "grpc_options": {**config["grpc_options"], "new_in_ray": 1},
        "applications": {
            app["name"]: {"status": "RUNNING", "deployed_app_config": app}
            for app in config["applications"]
        },
    }
    assert config_of(details) == {key: config[key] for key in config if key != "logging_config"}
    details["applications"]["theirs"] = {"status": "RUNNING", "deployed_app_config": None}
    with pytest.raises(SettingsError, match="theirs"):
        config_of(details)
