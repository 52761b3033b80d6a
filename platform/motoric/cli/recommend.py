"""`motoric models recommend`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console
from motoric.core.settings import Settings, load

if TYPE_CHECKING:
    from motoric.workflows.machines import Machines
    from motoric.workflows.recommendation import Recommendation


def recommend(
    dataset: Annotated[str, typer.Argument(help="Folder, URI, or a name in the storage.")],
    task: Annotated[
        Literal["classify", "regress", "forecast"] | None,
        typer.Option(help="By default classify, or forecast where there are no labels."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Recipe to write; by default it is printed.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print recipe, reasons and machines as JSON.")
    ] = False,
) -> None:
    """Propose a recipe for a dataset and the machines at hand, with the reason for each setting.

    It looks at size, modality, rates and labels of the dataset, and at the nodes of the running
    local platform or else this machine. Nothing is trained.

    Example: motoric models recommend watch-exercises --out my-recipe.yaml
    """
    from motoric.data.dataset import open_dataset
    from motoric.workflows.dataset_facts import look_at
    from motoric.workflows.recommend import recommend as propose

    settings = load()
    uri, name = _find(dataset, settings)
    facts = look_at(open_dataset(uri))
    machines = _machines(settings)
    found = propose(facts, machines, dataset=name, task=task)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(found.to_yaml())
    if as_json:
        typer.echo(json.dumps(_document(found, machines), indent=1))
        return
    _print(found, machines)
    if out is None:
        typer.echo(found.to_yaml())
    file = "FILE" if out is None else str(out)
    if out is not None:
        console.print(f"wrote {file}", soft_wrap=True)
    for command in (f"train {file} --dry-run", f"evaluate {file} --protocol {found.protocol}"):
        console.print(f"next: motoric {command}", markup=False, soft_wrap=True)


def _find(dataset: str, settings: Settings) -> tuple[str, str]:
    """Where the dataset lies, and how a recipe names it."""
    from motoric.cli.datasets import absolute
    from motoric.core import storage
    from motoric.data.ingest.build import default_uri

    if storage.is_absolute(dataset) or Path(dataset).is_dir():
        here = absolute(dataset)
        return here, here
    uri = default_uri(settings.storage_uri, dataset)
    return uri, uri.removeprefix(settings.storage_uri).lstrip("/")


def _machines(settings: Settings) -> Machines:
    """Of the Ray of a job or of the running local platform, else of this machine."""
    from motoric.cluster.local import running
    from motoric.cluster.session import ray_session
    from motoric.workflows.machines import machines_of_cluster, this_machine

    address = os.environ.get("RAY_ADDRESS", "")
    if running(settings) is None and (not address or "://" in address):
        return this_machine()
    with ray_session(settings):
        return machines_of_cluster()


def _print(found: Recommendation, machines: Machines) -> None:
    gpus = f", {machines.num_gpus} GPU(s) {', '.join(machines.gpu_names)}".rstrip()
    console.print(
        f"{machines.place}: {machines.num_nodes} node(s), {machines.num_cpus} CPUs,"
        f" {machines.memory_gib:.0f} GiB{gpus}; about {found.num_examples:,} examples",
        markup=False,
    )
    table = Table()
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("why")
    for reason in found.reasons:
        table.add_row(escape(reason.setting), escape(reason.value), escape(reason.why))
    console.print(table)
    for caution in found.cautions:
        console.print(f"[yellow]note:[/] {escape(caution)}", soft_wrap=True)


def _document(found: Recommendation, machines: Machines) -> dict[str, object]:
    return {
        "recipe": dict(found.content),
        "reasons": [
            {"setting": item.setting, "value": item.value, "why": item.why}
            for item in found.reasons
        ],
        "cautions": list(found.cautions),
        "protocol": found.protocol,
        "num_examples": found.num_examples,
        "machines": {
            "place": machines.place,
            "num_nodes": machines.num_nodes,
            "num_cpus": machines.num_cpus,
            "num_gpus": machines.num_gpus,
            "gpu_names": list(machines.gpu_names),
            "has_tpu": machines.has_tpu,
            "memory_gib": round(machines.memory_gib, 1),
        },
    }
