"""From trained weights to a verified artefact with its figures.

In: a recipe, its examples, the weights. Out: predictions of the exported graph for the test part,
run by the predictor that serves it, and the files of the artefact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from motoric.artefact import files
from motoric.artefact.description import describe_inputs, describe_output
from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS, Predictor
from motoric.artefact.preprocessing import prepare
from motoric.artefact.signature import Signature
from motoric.core import storage
from motoric.optimization.export import export_onnx, verify_onnx
from motoric.training.evaluation.classification_scores import ClassificationEvaluation
from motoric.training.evaluation.evaluate import Evaluation
from motoric.training.evaluation.predictions import Predictions
from motoric.training.examples import Examples, SplitExamples
from motoric.training.folds import to_predictions
from motoric.training.loop import make_network
from motoric.training.objective import make_head
from motoric.training.recipe import Recipe
from motoric.training.trainer import TrainedRun

_VERIFY_EXAMPLES = {True: 4, False: 64}


def export(recipe: Recipe, data: SplitExamples, run: TrainedRun) -> bytes:
    """The graph, verified on examples of the training people.

    Raises:
        ArtefactError: It differs from the network.
    """
    network, head = make_network(recipe, data), make_head(data)
    network.load_state_dict(run.weights)
    network.eval()
    model = export_onnx(network, head, data.signature)
    num = _VERIFY_EXAMPLES[data.train.clips_BTHWC is not None]
    verify_onnx(
        model, network, head, data.signature, _graph_inputs(data.signature, data.at_hand, num)
    )
    return model


def _graph_inputs(signature: Signature, examples: Examples, num: int) -> dict[str, NDArray[Any]]:
    chosen = examples.take(np.linspace(0, len(examples) - 1, num).astype(np.int64))
    inputs: dict[str, NDArray[Any]] = {}
    if chosen.windows_BTC is not None:
        prepared = prepare(chosen.windows_BTC, signature.preprocessing, signature.sensors)
        inputs[WINDOWS] = prepared
    if chosen.clips_BTHWC is not None:
        inputs[CLIPS] = chosen.clips_BTHWC
    if len(inputs) == 2:
        inputs[PRESENT] = chosen.present_B2.astype(np.float32)
    return inputs


def predict_test(model: bytes, data: SplitExamples, seed: int) -> Predictions:
    """What the graph says about the test part."""
    artefact = LoadedArtefact(uri="(new)", digest="", signature=data.signature, model=model)
    test = data.test
    is_fused = test.windows_BTC is not None and test.clips_BTHWC is not None
    outputs_BK = Predictor(artefact).predict(
        test.windows_BTC, test.clips_BTHWC, test.present_B2 if is_fused else None
    )
    return to_predictions(data.signature, test, outputs_BK, seed=seed)


def write(
    recipe: Recipe,
    data: SplitExamples,
    run: TrainedRun,
    model: bytes,
    evaluation: Evaluation,
    storage_uri: str,
) -> tuple[str, str]:
    """Write the artefact; returns its URI and its digest."""
    content: Mapping[str, bytes] = {
        files.MODEL: model,
        files.WEIGHTS: save(run.weights),
        files.RECIPE: recipe.to_yaml().encode(),
        files.SIGNATURE: data.signature.model_dump_json(indent=1).encode(),
        files.METRICS: evaluation.model_dump_json(indent=1).encode(),
        files.CARD: _card(recipe, data, run, evaluation).encode(),
    }
    digest = files.digest_of(files.sums(content))
    name = recipe.registry.model if recipe.registry is not None else recipe.name
    uri = storage.join(storage_uri, "artefacts", name, digest.removeprefix("sha256:")[:16])
    return uri, files.write_artefact(uri, content)


def _card(recipe: Recipe, data: SplitExamples, run: TrainedRun, evaluation: Evaluation) -> str:
    inputs = "\n".join(f"- **Input**: {line}" for line in describe_inputs(data.signature))
    return f"""# {recipe.name}

Run `{run.run_id}`: `{recipe.model["name"]}`, {len(run.epochs)} epochs on {run.num_workers}
worker(s).

{inputs}
- **Output**: {describe_output(data.signature)}.
- **Trained on**: {", ".join(data.split.train)}; watched on {
        ", ".join(data.split.validation) or "nobody"
    }.
- **Tested on {recipe.tested_on}**: {", ".join(data.split.test)}; {evaluation.num_windows} examples.

{_figures(evaluation)}
"""


def _figures(evaluation: Evaluation) -> str:
    if not isinstance(evaluation, ClassificationEvaluation):
        return f"Mean absolute error {evaluation.mae:.3g} {evaluation.unit}."
    people = "\n".join(
        f"| {score.subject} | {score.num_windows} | {score.accuracy:.1%} |"
        f" {score.recording_accuracy:.1%} |"
        for score in evaluation.subjects
    )
    spread = evaluation.subject_accuracy
    return f"""Accuracy {evaluation.accuracy:.1%}, {spread.min:.1%} to {spread.max:.1%} over people;
macro F1 {evaluation.macro_f1:.3f}.

| person | examples | accuracy | whole recordings |
|---|---|---|---|
{people}"""
