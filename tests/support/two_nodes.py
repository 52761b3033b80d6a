"""Two Ray nodes that share the storage alone: the driver of tests/ray/test_two_nodes.py.

Runs on the head, in a process of its own: starts both nodes, trains on the worker, registers on the
head, serves from the worker, and writes what it saw to `seen.json` in the folder it is given.
"""

from __future__ import annotations

import concurrent.futures
import csv
import ctypes
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from motoric.cluster import ports
from motoric.core.settings import Settings, load

MODEL = "sines"
HEAD_IP, WORKER_IP = "127.0.0.2", "127.0.0.3"
_STEP_TIMEOUT_S = 60.0
_NUM_COMPARED = 6
_OBJECT_STORE_BYTES = 100 * 2**20
_CLONE_NEWNS = 0x20000


class _Quiet:
    """Watches the chain of training."""

    def __init__(self) -> None:
        self.num_epochs = 0

    def on_stage(self, name: str) -> None:
        _say(name)

    def on_run(self, _run_id: str) -> None:
        return

    def on_tick(self, _tick: object) -> None:
        return

    def on_epoch(self, _report: object, _num_epochs: int) -> None:
        self.num_epochs += 1


def run_two_nodes(folder: Path) -> dict[str, Any]:
    """Start both nodes, take a model the whole way, and tell what was seen."""
    import ray

    from motoric.cluster.serve_api import ServeApi
    from motoric.serving.config import ModelAppArgs, serve_config

    settings = load()
    plan = json.loads((folder / "plan.json").read_text())
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        # Takes seconds, most of which the start of the nodes spends waiting.
        beside.submit(importlib.import_module, "motoric.workflows.train")
        head, worker, isolated = _start_nodes(folder, settings, plan)
    _say("both nodes run")
    ray.init(address=head.gcs_address, log_to_driver=False, logging_level="warning")
    key = _make_key(settings)
    model = ModelAppArgs(model=MODEL, cpu=0.1, resources={"on_worker": 0.1})
    # Replicas listen where Serve's HTTP host says, and another node's proxy must reach them; with
    # 127.0.0.1 Serve takes a slow detour and says nothing.
    http, grpc = settings.ports.http, settings.ports.grpc
    config = serve_config([model], http_host="0.0.0.0", http_port=http, grpc_port=grpc)
    dashboard_url = f"http://{ports.LOOPBACK}:{settings.ports.dashboard}"
    http_url = f"http://{ports.LOOPBACK}:{settings.ports.http}"
    with (
        ServeApi(dashboard_url, folder / "head" / "token") as api,
        httpx.Client(base_url=http_url, trust_env=False, timeout=20) as client,
    ):
        api.put(config)
        _say("Serve starts, beside the training")
        seen = _train(settings)
        seen["training_nodes"] = _nodes_of_actors("RayTrainWorker", dashboard_url)
        _say("trained")
        api.wait_running(["platform", MODEL], _STEP_TIMEOUT_S)
        seen["config"] = api.declared()
        _say("Serve runs")
        seen["replicas"] = {
            name: next(iter(application["deployments"].values()))["replicas"][0]
            for name, application in api.applications().items()
        }
        body = {"windows": seen.pop("windows")}
        predict = f"/v1/models/{MODEL}/predict"
        seen["first"] |= _ask(client, version=1, body=body, key=key)
        seen["status_without_key"] = client.post(predict, json=body).status_code
        _say("the first version answers")
        seen["second"] = _release_second(settings, client, key) | {"config": api.declared()}
        seen["proxied"] = _proxied()
        _say("the second version answers")
    return seen | {
        "isolated": isolated,
        "storage": settings.storage_uri,
        "head": {
            "node_id": head.node_id,
            "folder": str(folder / "head"),
            "files": _files(settings.home),
        },
        "worker": {
            "node_id": worker.node_id,
            "processes": _views(worker, folder / "head"),
            "environment": _worker_environment(),
            "files": _files(folder / "worker"),
        },
        "storage_files_naming_head": [
            str(path)
            for path in (folder / "storage").rglob("*")
            if path.is_file() and str(folder / "head").encode() in path.read_bytes()
        ],
    }


def _start_nodes(folder: Path, settings: Settings, plan: dict[str, Any]) -> tuple[Any, Any, bool]:
    """Start the head and the worker; returns both, and whether the worker has a view of its own."""
    from ray.cluster_utils import Cluster

    common = {"num_cpus": 4, "object_store_memory": _OBJECT_STORE_BYTES}
    # Whoever started this process ends all that it leaves, by the variable of the instance.
    cluster = Cluster(shutdown_at_exit=False)
    head = cluster.add_node(
        **common,
        node_ip_address=HEAD_IP,
        gcs_server_port=settings.ports.gcs,
        include_dashboard=True,
        include_log_monitor=False,
        dashboard_host=ports.LOOPBACK,
        dashboard_port=settings.ports.dashboard,
        dashboard_agent_listen_port=plan["agent_port"],
        resources={"on_head": 4},
    )

    def start_worker() -> tuple[Any, bool]:
        isolated = _hide(folder / "head")
        os.chdir(folder / "worker")
        worker = cluster.add_node(
            **common,
            node_ip_address=WORKER_IP,
            temp_dir=str(folder / "worker" / "t" / "ray"),
            resources={"on_worker": 4},
            env_vars=plan["worker_variables"],
        )
        return worker, isolated

    # What a thread starts inherits the thread's mounts; all other threads keep theirs.
    with concurrent.futures.ThreadPoolExecutor(1) as one_thread:
        worker, isolated = one_thread.submit(start_worker).result(_STEP_TIMEOUT_S)
    os.chdir(folder / "head")
    return head, worker, isolated


def _hide(folder: Path) -> bool:
    """Give this thread mounts of its own, with an empty folder in place of `folder`."""
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    mounts = (
        ["--make-rprivate", "/"],
        ["-t", "tmpfs", "-o", "ro", "none", str(folder)],
        ["-t", "tmpfs", "-o", "size=1g", "none", "/dev/shm"],
    )
    return all(subprocess.run(["mount", *mount], check=False).returncode == 0 for mount in mounts)


def _make_key(settings: Settings) -> str:
    from motoric.serving.accounts import open_accounts

    accounts = open_accounts(settings)
    try:
        return accounts.create_key("two nodes").secret
    finally:
        accounts.close()


def _train(settings: Settings) -> dict[str, Any]:
    """Make a dataset on the storage, train on it, register, release."""
    from motoric.artefact.predictor import Predictor
    from motoric.core import storage
    from motoric.data.dataset import open_dataset
    from motoric.training.partition import load_split
    from motoric.training.recipe import parse_recipe
    from motoric.workflows.train import train_model
    from recordings import SineSource, recipe_content, write_dataset

    write_dataset(
        storage.join(settings.storage_uri, "datasets/sines"),
        SineSource(num_subjects=4, duration_s=20.0),
    )
    content = recipe_content(
        "datasets/sines",
        resources={"num_workers": 2, "labels": {"on_worker": 1}},
        registry={"model": MODEL},
    )
    recipe = parse_recipe(content, "the test")
    watcher = _Quiet()
    made = train_model(recipe, settings, watcher)
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    windows_BTC = load_split(recipe, dataset).test.windows_BTC[:_NUM_COMPARED]
    runs = Path(settings.storage_uri, "runs", made.run_id)
    return {
        "accuracy": made.evaluation.accuracy,
        "num_epochs": watcher.num_epochs,
        "checkpoints": [str(path) for path in runs.rglob("*.weights.safetensors")],
        "windows": windows_BTC.tolist(),
        "expected": Predictor.load(made.artefact_uri).predict(windows_BTC).tolist(),
        "first": _registered(settings),
    }


def _registered(settings: Settings) -> dict[str, Any]:
    from motoric.core.releases import read_release
    from motoric.registry.registry import Registry

    versions = Registry(settings.registry_uri, settings.storage_uri).versions(MODEL)
    return {
        "versions": [
            {
                "version": found.version,
                "aliases": found.aliases,
                "digest": found.digest,
                "artefact_uri": found.artefact_uri,
            }
            for found in versions
        ],
        "release": read_release(settings.storage_uri, MODEL).model_dump(mode="json"),
    }


def _release_second(settings: Settings, client: httpx.Client, key: str) -> dict[str, Any]:
    """Register another artefact and move the alias to it; nothing is deployed."""
    import artefacts
    from motoric.core import storage
    from motoric.registry.promotion import CHAMPION, promote
    from motoric.registry.registry import Registry

    registry = Registry(settings.registry_uri, settings.storage_uri)
    uri = storage.join(settings.storage_uri, "artefacts", MODEL, "second")
    digest = artefacts.write_small_artefact(uri)
    (first,) = registry.versions(MODEL)
    registry.register(MODEL, artefact_uri=uri, digest=digest, run_id=first.run_id, figures={})
    promote(registry, settings.storage_uri, MODEL, CHAMPION, 2)
    window = artefacts.window_of(artefacts.CLASSES.index("rotate"))
    asked = _ask(client, version=2, body={"windows": [window]}, key=key)
    return asked | _registered(settings)


def _ask(client: httpx.Client, *, version: int, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Wait until the replica serves a version, then predict."""
    health: dict[str, Any] = {}

    def serves() -> bool:
        health.update(client.get(f"/v1/models/{MODEL}/healthz").json())
        return health.get("version") == version

    _wait(serves, lambda: f"version {version} is not served: {health}")
    answer = client.post(
        f"/v1/models/{MODEL}/predict", json=body, headers={"authorization": f"Bearer {key}"}
    )
    answer.raise_for_status()
    return {"answer": answer.json(), "replica": health["replica"]}


def _proxied() -> dict[str, int]:
    """Requests by the server that HAProxy gave them to, of the model's backend."""
    address = f"http://{ports.LOOPBACK}:{os.environ['RAY_SERVE_HAPROXY_STATS_PORT']}/stats;csv"
    table = httpx.get(address, trust_env=False).text.removeprefix("# ").splitlines()
    return {
        row["svname"]: int(row["stot"])
        for row in csv.DictReader(table)
        if row["pxname"] == f"http-{MODEL}" and row["svname"] != "BACKEND"
    }


def _nodes_of_actors(class_name: str, dashboard_url: str) -> list[str]:
    from ray.util.state import list_actors

    # By its address: else the search may end at another cluster of this machine.
    actors = list_actors(address=dashboard_url)
    return [str(actor.node_id) for actor in actors if actor.class_name.endswith(class_name)]


def _worker_environment() -> dict[str, str]:
    """The variables of a worker process, from inside: a changed title hides them from outside."""
    import ray

    @ray.remote(num_cpus=0.1, resources={"on_worker": 0.1})
    def environment_here() -> dict[str, str]:
        return dict(os.environ)

    found: dict[str, str] = ray.get(environment_here.remote(), timeout=_STEP_TIMEOUT_S)
    return found


def _views(worker: Any, head_folder: Path) -> list[dict[str, Any]]:
    """What the processes of the worker node were given, and what they see at the head's folder."""
    (raylet,) = worker.all_processes["raylet"]
    top = psutil.Process(raylet.process.pid)
    mine = Path("/dev/shm").stat().st_dev
    views = []
    for process in (top, *top.children(recursive=True)):
        root = Path(f"/proc/{process.pid}/root")
        try:
            views.append(
                {
                    "pid": process.pid,
                    "name": " ".join(process.cmdline()[:3]),
                    "cwd": process.cwd(),
                    "head": sorted(path.name for path in _inside(root, head_folder).iterdir()),
                    "own_shared_memory": (root / "dev" / "shm").stat().st_dev != mine,
                }
            )
        except (psutil.NoSuchProcess, FileNotFoundError):  # an idle worker that has just ended
            continue
    return views


def _inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _files(folder: Path) -> list[str]:
    """Files of a node, without Ray's and a library's temporary ones."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] not in ("t", "tmp", "cache"))


def _wait(holds: Callable[[], bool], complain: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + _STEP_TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s, complain()
        time.sleep(0.1)


def _say(what: str) -> None:
    print(f"{time.monotonic() - _started_s:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    _started_s = time.monotonic()
    _folder = Path(sys.argv[1])
    (_folder / "seen.json").write_text(json.dumps(run_two_nodes(_folder), default=str))
    _say("done")
