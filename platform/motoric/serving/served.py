"""One loaded version of a model, ready to answer; and how it is loaded.

In: a release. Out: a `ServedModel` that was run before anybody waits for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from motoric.artefact.files import load_artefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import Signature
from motoric.core import storage
from motoric.core.releases import ReleasedVersion
from motoric.serving.batching import Batcher
from motoric.serving.protocol import AnswerWriter, WindowParser

INLINE_LIMIT_S = 2e-3
_NUM_WARM_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a replica runs its model."""

    num_threads: int = 1
    gpu_fraction: float = 0.0
    max_windows: int = 32
    max_wait_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One version, loaded and warm."""

    model: str
    version: int
    digest: str
    signature: Signature
    providers: tuple[str, ...]
    parser: WindowParser
    batcher: Batcher
    writer: AnswerWriter
    batch_s: float
    inline: bool
    load_s: float


def load_model(
    storage_uri: str, model: str, version: ReleasedVersion, options: RunOptions
) -> ServedModel:
    """Load a released version, check its digest, and run it (blocking).

    Raises:
        ArtefactError: The artefact is missing, was changed, or does not load.
    """
    started_s = time.perf_counter()
    artefact = load_artefact(storage.resolve(version.artefact, storage_uri), version.digest)
    predictor = Predictor(
        artefact, num_threads=options.num_threads, gpu_fraction=options.gpu_fraction
    )
    batch_s = _warm_up(predictor, options.max_windows)
    signature = artefact.signature
    inline = batch_s < INLINE_LIMIT_S
    return ServedModel(
        model=model,
        version=version.version,
        digest=artefact.digest,
        signature=signature,
        providers=tuple(predictor.providers),
        parser=WindowParser(signature.sensors),
        batcher=Batcher(
            predictor.predict_checked,
            max_windows=options.max_windows,
            max_wait_ms=options.max_wait_ms,
            inline=inline,
        ),
        writer=AnswerWriter(
            model=model, version=version.version, digest=artefact.digest, classes=signature.classes
        ),
        batch_s=batch_s,
        inline=inline,
        load_s=time.perf_counter() - started_s,
    )


def _warm_up(predictor: Predictor, max_windows: int) -> float:
    """Run one window, then full batches; returns the seconds of the fastest, since noise adds."""
    sensors = predictor.signature.sensors
    shape = (max_windows, sensors.num_input_samples, sensors.num_channels)
    windows_BTC = np.zeros(shape, dtype=np.float32)
    predictor.predict(windows_BTC[:1])
    seconds = []
    for _ in range(_NUM_WARM_RUNS):
        started_s = time.perf_counter()
        predictor.predict_checked(windows_BTC)
        seconds.append(time.perf_counter() - started_s)
    return min(seconds)
