"""From a recipe and its dataset to the windows of each part of the split."""

from __future__ import annotations

from dataclasses import dataclass

from motoric.artefact.preprocessing import fit_normaliser
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    Preprocessing,
    SensorInput,
    Signature,
    TrainingStatistics,
)
from motoric.core.errors import DatasetError
from motoric.data.dataset import Dataset
from motoric.data.windows import WindowSet, cut_windows
from motoric.training.recipe import Recipe
from motoric.training.split import Split, split_subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitWindows:
    """Windows of the parts of a split, and the signature that the training part fixes."""

    split: Split
    train: WindowSet
    validation: WindowSet
    test: WindowSet
    signature: Signature


def load_windows(recipe: Recipe, dataset: Dataset) -> SplitWindows:
    """Read, split and cut a dataset as a recipe says; training subjects alone fit the normaliser.

    Raises:
        DatasetError: Too few subjects, labels or windows; a class that training never sees.
        RecipeError: The recipe names a subject that is not there.
    """
    classes = dataset.labels()
    if len(classes) < 2:
        raise DatasetError(
            f"{dataset.uri} has {len(classes)} label(s); classification needs two or more"
        )
    split = split_subjects(dataset.subjects(), recipe.split)
    card = dataset.card.stream(recipe.window.stream)
    train, validation, test = (
        cut_windows(
            dataset.recordings(part),
            stream_name=card.name,
            rate_hz=card.rate_hz,
            length_s=recipe.window.length_s,
            hop_s=recipe.window.hop_s,
            classes=classes,
        )
        for part in (split.train, split.validation, split.test)
    )
    unseen = sorted(set(range(len(classes))) - set(train.labels_B.tolist()))
    if unseen:
        names = ", ".join(classes[index] for index in unseen)
        raise DatasetError(f"no training subject has a window of: {names}; change split.seed")
    flat = train.windows_BTC.reshape(-1, train.windows_BTC.shape[-1])
    signature = Signature(
        inputs=(
            SensorInput(
                name=card.name,
                channels=tuple(Channel(name=item.name, unit=item.unit) for item in card.channels),
                rate_hz=card.rate_hz,
                length_s=recipe.window.length_s,
                hop_s=recipe.window.hop_s,
            ),
        ),
        outputs=(ClassesOutput(classes=tuple(classes)),),
        preprocessing=Preprocessing(
            normaliser=fit_normaliser(train.windows_BTC) if recipe.preprocessing.normalise else None
        ),
        training_statistics=TrainingStatistics(
            num_windows=len(train),
            num_subjects=len(split.train),
            channel_min=tuple(flat.min(axis=0).tolist()),
            channel_max=tuple(flat.max(axis=0).tolist()),
        ),
    )
    return SplitWindows(
        split=split, train=train, validation=validation, test=test, signature=signature
    )
