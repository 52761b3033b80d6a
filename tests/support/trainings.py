"""Recipes of tests, trained and exported in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import parse_signature
from motoric.data.dataset import open_dataset
from motoric.optimization.export import export_onnx
from motoric.training.examples import Examples, SplitExamples
from motoric.training.inputs import ModelInputs, model_inputs
from motoric.training.loop import fit, make_network, predict_examples
from motoric.training.objective import make_head
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.run import State, Worker
from recordings import recipe_content


def recipe_of(uri: str, **changes: Any) -> Recipe:
    """A checked recipe of a dataset of sines."""
    return parse_recipe(recipe_content(uri, **changes), "r")


def load(uri: str, **changes: Any) -> tuple[Recipe, SplitExamples]:
    """A recipe and its examples."""
    recipe = recipe_of(uri, **changes)
    return recipe, load_split(recipe, open_dataset(uri))


def inputs_of(recipe: Recipe) -> ModelInputs:
    """What a recipe feeds its model."""
    return model_inputs(recipe, open_dataset(recipe.dataset))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A recipe that was trained here."""

    recipe: Recipe
    data: SplitExamples
    weights: State
    epochs: list[EpochReport]

    @property
    def network(self) -> nn.Module:
        """With the weights that were kept."""
        network = make_network(self.recipe, self.data)
        network.load_state_dict(self.weights)
        return network.eval()

    def predicted(self, examples: Examples) -> NDArray[np.float32]:
        """What the network says."""
        return predict_examples(self.network, self.recipe, self.data, examples)

    def predictor(self) -> Predictor:
        """The exported graph, with the signature as it is read from its file."""
        signature = parse_signature(self.data.signature.model_dump_json().encode(), "signature")
        model = export_onnx(self.network, make_head(self.data), signature)
        return Predictor(LoadedArtefact(uri="x", digest="", signature=signature, model=model))


def train_here(
    recipe: Recipe,
    data: SplitExamples,
    on_epoch: Callable[[EpochReport, State], None] = lambda *_: None,
) -> Trained:
    """Train in this process, by one worker."""
    epochs: list[EpochReport] = []

    def keep(report: EpochReport, kept: State) -> None:
        epochs.append(report)
        on_epoch(report, kept)

    weights = fit(recipe, data, worker=Worker(), on_epoch=keep)
    return Trained(recipe=recipe, data=data, weights=weights, epochs=epochs)
