"""What training minimises and by what validation is scored, for each task.

Axes: B examples, K outputs, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from motoric.artefact.signature import (
    ClassesOutput,
    QuantilesOutput,
    Signature,
    output_channels,
)
from motoric.core.errors import RecipeError
from motoric.models.heads import ClassesHead, QuantilesHead, ValueHead
from motoric.training.examples import SplitExamples
from motoric.training.recipe import Recipe

MEDIAN = 0.5


def num_outputs(data: SplitExamples) -> int:
    """Outputs that the network needs."""
    output = data.signature.output
    if isinstance(output, ClassesOutput):
        return len(output.classes)
    return len(output.quantiles) if isinstance(output, QuantilesOutput) else 1


def make_head(data: SplitExamples) -> nn.Module:
    """The last part of the graph; what it needs to know follows from the training part."""
    output = data.signature.output
    if isinstance(output, ClassesOutput):
        return ClassesHead()
    targets_B = data.train.targets_B.astype(np.float64)
    if not isinstance(output, QuantilesOutput):
        return ValueHead(float(targets_B.mean()), _positive(targets_B.std()))
    assert data.train.persistence_B is not None
    preprocessing = data.signature.preprocessing
    channel, normaliser = target_channel(data.signature, output), preprocessing.normaliser
    return QuantilesHead(
        channel=channel,
        mean=0.0 if normaliser is None else normaliser.mean[channel],
        std=1.0 if normaliser is None else normaliser.std[channel],
        scale=_positive((targets_B - data.train.persistence_B).std()),
    )


def target_channel(signature: Signature, output: QuantilesOutput) -> int:
    """Place of a forecast's target among the prepared channels."""
    steps = signature.preprocessing.steps
    names = [item.name for item in output_channels(signature.sensors.channels, steps)]
    return names.index(output.of)


def _positive(deviation: float) -> float:
    return max(float(deviation), 1e-6)


class Objective:
    """Loss and score of one recipe.

    Args:
        recipe: Its task, label smoothing, class weights and auxiliary weight.
        data: The training part fixes class weights and scales.

    Raises:
        RecipeError: `train.class_weights` names a label that is not there.
    """

    def __init__(self, recipe: Recipe, data: SplitExamples) -> None:
        self.head = make_head(data)
        self.num_outputs = num_outputs(data)
        self._output = data.signature.output
        self._smoothing = recipe.train.label_smoothing
        self._auxiliary_weight = recipe.train.auxiliary_weight
        self._weights_K = _class_weights(recipe, data)

    @property
    def score_name(self) -> str:
        """What `score` gives: higher is better for accuracy, lower for errors."""
        return "accuracy" if self.is_classes else f"MAE, {self.unit}"

    @property
    def is_classes(self) -> bool:
        """Whether classes are told apart."""
        return isinstance(self._output, ClassesOutput)

    @property
    def unit(self) -> str:
        """Of the target."""
        return "" if isinstance(self._output, ClassesOutput) else self._output.unit

    def loss(self, outputs: Tensor | Sequence[Tensor], targets_B: Tensor) -> Tensor:
        """Mean loss; a network's auxiliary outputs count with their weight.

        Args:
            outputs: Of the network, (B, K), or a tuple with auxiliary ones.
            targets_B: As `Batch.targets_B`: of a forecast, the change from the last value.
        """
        if isinstance(outputs, Tensor):
            return self._loss(outputs, targets_B)
        first, *auxiliary = outputs
        total = self._loss(first, targets_B)
        for item in auxiliary:
            total = total + self._auxiliary_weight * self._loss(item, targets_B)
        return total

    def score(self, predicted_BK: Tensor, targets_B: Tensor) -> float:
        """Accuracy, or the mean absolute error of the value or the median."""
        if self.is_classes:
            return (predicted_BK.argmax(dim=1) == targets_B).float().mean().item()
        return (self._median(predicted_BK) - targets_B).abs().mean().item()

    def _median(self, predicted_BK: Tensor) -> Tensor:
        if isinstance(self._output, QuantilesOutput):
            return predicted_BK[:, self._output.quantiles.index(MEDIAN)]
        return predicted_BK[:, 0]

    def _loss(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
        if self.is_classes:
            weights = None if self._weights_K is None else self._weights_K.to(outputs_BK.device)
            return cross_entropy(
                outputs_BK, targets_B, weight=weights, label_smoothing=self._smoothing
            )
        if isinstance(self.head, ValueHead):
            wanted_B = (targets_B - self.head.mean) / self.head.std
            return smooth_l1_loss(outputs_BK[:, 0], wanted_B)
        assert isinstance(self._output, QuantilesOutput)
        assert isinstance(self.head, QuantilesHead)
        predicted_BQ = self.head.changes(outputs_BK)
        return pinball_loss(predicted_BQ, targets_B, self._output.quantiles) / self.head.scale


def pinball_loss(predicted_BQ: Tensor, targets_B: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Mean quantile loss (Koenker and Bassett 1978, doi:10.2307/1913643), in the target's unit."""
    quantiles_Q = torch.tensor(quantiles, dtype=predicted_BQ.dtype, device=predicted_BQ.device)
    error_BQ = targets_B[:, None] - predicted_BQ
    return torch.maximum(quantiles_Q * error_BQ, (quantiles_Q - 1) * error_BQ).mean()


def _class_weights(recipe: Recipe, data: SplitExamples) -> Tensor | None:
    """Weights of the loss by class, mean 1 over the training examples; None: all alike."""
    chosen, classes = recipe.train.class_weights, data.train.classes
    if chosen == "none" or not classes:
        return None
    counts_K = np.bincount(data.train.targets_B.astype(np.int64), minlength=len(classes))
    if chosen == "balanced":
        weights_K = len(data.train) / (len(classes) * np.maximum(counts_K, 1))
    else:
        assert isinstance(chosen, dict)
        unknown = sorted(set(chosen) - set(classes))
        if unknown or not all(0 < weight < np.inf for weight in chosen.values()):
            raise RecipeError(
                f"train.class_weights names {', '.join(unknown) or 'a weight not above 0'}: there"
                f" are {', '.join(classes)}, and weights are above 0"
            )
        weights_K = np.array([chosen.get(name, 1.0) for name in classes])
    return torch.from_numpy(weights_K.astype(np.float32))
