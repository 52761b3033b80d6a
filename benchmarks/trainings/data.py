"""What is trained in these measurements: recipes of jobs/recipes on data that is made up here.

Sensors are a dataset on disk, as `motoric train` reads it: ten people, seven movements, and the
stream that the recipes of the watch ask for. Clips are noise of the recipe's own shape, in memory,
where a worker has them once it has read its videos. What is in them changes no time.

Axes: B clips, T frames, H height, W width, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from motoric.artefact.signature import (
    ClassesOutput,
    ClipInput,
    Normaliser,
    Preprocessing,
    Signature,
)
from motoric.data.dataset import open_dataset
from motoric.data.ingest.build import conclude, gather, known_at, plan
from motoric.data.ingest.part_writer import PartWriter
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, as_raw, combine
from motoric.data.recording import Annotation, Channel, Recording, Stream
from motoric.training.examples import CLIP, Examples, SplitExamples
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe, load_recipe
from motoric.training.split import Split

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SENSORS, VIDEO = "watch_inception", "utd_depth_r2plus1d"
_NUM_PEOPLE, _DURATION_S, _RATE_HZ = 10, 24.0, 50.0
_MOVEMENTS = tuple(f"movement {number}" for number in range(1, 8))
_CHANNELS = tuple(
    Channel(name=f"{kind}_{axis}", unit=unit)
    for kind, unit in (("acc", "m/s^2"), ("gyr", "rad/s"))
    for axis in "xyz"
)
_NUM_ACTIONS = 27


class NoiseSource:
    """Recordings of noise, one of each person and movement."""

    name = "noise"
    description = "SYNTHETIC: noise, to measure times with"
    origin = "made by benchmarks/training.py"

    def digests(self) -> dict[str, str]:
        """Of what decides the values."""
        return {"noise": combine(str(_NUM_PEOPLE), str(_DURATION_S))}

    def settings(self) -> dict[str, str]:
        """None."""
        return {}

    def items(self) -> list[SourceItem]:
        """All recordings."""
        return [
            SourceItem(recording_id=f"r{index:03d}", place=f"noise/{index}", num_bytes=2**16)
            for index in range(_NUM_PEOPLE * len(_MOVEMENTS))
        ]

    def rejected(self) -> list[Quarantined]:
        """None."""
        return []

    def digest(self, index: int) -> str:
        """Of one recording."""
        return combine(str(index))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """One recording."""
        person, movement = divmod(index, len(_MOVEMENTS))
        time_s = np.arange(round(_DURATION_S * _RATE_HZ)) / _RATE_HZ
        shape = (len(time_s), len(_CHANNELS))
        values_TC = np.random.default_rng(index).standard_normal(shape, dtype=np.float32)
        label = _MOVEMENTS[movement]
        yield as_raw(
            Recording(
                recording_id=f"r{index:03d}",
                subject=f"s{person}",
                streams=(
                    Stream(
                        name="imu",
                        rate_hz=_RATE_HZ,
                        channels=_CHANNELS,
                        time_s=time_s,
                        values_TC=values_TC,
                    ),
                ),
                annotations=(Annotation(start_s=0, end_s=_DURATION_S, label=label),),
                metadata={},
            )
        )


def write_sensors(folder: Path) -> str:
    """Write the dataset of sensors; returns its URI."""
    uri, source = str(folder / "noise"), NoiseSource()
    writer, known = PartWriter(source=source, dataset_uri=uri), known_at(uri)
    results = [
        json.loads(writer({"task": json.dumps(task)})["result"]) for task in plan(source, known)
    ]
    conclude(source, uri, known, gather(results), strict=True)
    return uri


def recipe_of(name: str, dataset_uri: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of jobs/recipes, for one worker that is not stopped early."""
    own = (f"dataset={dataset_uri}", "resources.num_workers=1", "train.epochs=1000")
    return load_recipe(RECIPES / f"{name}.yaml", (*own, *overrides))


def examples_of(recipe: Recipe, num_clips: int) -> SplitExamples:
    """The examples of a recipe: of its dataset, or `num_clips` clips of noise."""
    if recipe.clip is None:
        return load_split(recipe, open_dataset(recipe.dataset))
    clip = ClipInput(**recipe.clip.model_dump(exclude_none=True))
    classes = tuple(f"action {number}" for number in range(1, _NUM_ACTIONS + 1))
    train = _clips(num_clips, clip, classes)
    return SplitExamples(
        split=Split(train=("s1",), validation=(), test=()),
        train=train,
        validation=train.take(np.arange(0)),
        test=train.take(np.arange(0)),
        signature=Signature(
            inputs=(clip,),
            outputs=(ClassesOutput(classes=classes),),
            preprocessing=Preprocessing(clip_normaliser=Normaliser(mean=(0.5,), std=(0.29,))),
        ),
    )


def _clips(num: int, clip: ClipInput, classes: tuple[str, ...]) -> Examples:
    present_B2 = np.zeros((num, 2), dtype=np.bool_)
    present_B2[:, CLIP] = True
    random = np.random.default_rng(0)
    return Examples(
        windows_BTC=None,
        clips_BTHWC=random.integers(0, 256, (num, *clip.shape), dtype=np.uint8),
        present_B2=present_B2,
        targets_B=np.arange(num, dtype=np.int64) % len(classes),
        persistence_B=None,
        subjects=("s1",) * num,
        recording_ids=tuple(f"r{index:04d}" for index in range(num)),
        start_s_B=np.zeros(num),
        end_s_B=np.ones(num),
        classes=classes,
    )
