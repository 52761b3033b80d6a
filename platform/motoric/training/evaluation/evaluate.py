"""Evaluation on people never seen in training: the figures that are `metrics.json`.

In: `Predictions` of held-out windows. Out: a frozen evaluation of the task's kind, with 95 %
intervals over people and notes on what the figures cannot say.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from motoric.core.errors import ArtefactError
from motoric.core.settings import describe
from motoric.training.evaluation.classification_scores import (
    ClassificationEvaluation,
    evaluate_classes,
)
from motoric.training.evaluation.forecast_scores import ForecastEvaluation, evaluate_forecast
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.value_scores import ValueEvaluation, evaluate_values

Evaluation = Annotated[
    ClassificationEvaluation | ValueEvaluation | ForecastEvaluation, Field(discriminator="task")
]


def evaluate(predictions: Predictions) -> Evaluation:
    """Score the outputs for held-out windows of one run, or of several folds and seeds together."""
    if predictions.task == "classify":
        return evaluate_classes(predictions)
    if predictions.task == "regress":
        return evaluate_values(predictions)
    return evaluate_forecast(predictions)


def parse_evaluation(content: bytes, place: str) -> Evaluation:
    """Read `metrics.json`.

    Args:
        content: Of the file.
        place: Where it lies, for messages.

    Raises:
        ArtefactError: It is none, or was written by another version of Motoric.
    """
    try:
        return _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise ArtefactError(
            f"{place}: {describe(error)}; evaluate the model again with this Motoric"
        ) from error


_ADAPTER: TypeAdapter[Evaluation] = TypeAdapter(Evaluation)
