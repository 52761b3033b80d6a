"""One loaded version of a model, ready to answer; and how it is loaded.

In: a release. Out: a `ServedModel` that was run before anybody waits for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from motoric.artefact.files import METRICS, load_artefact, read_file, read_sums
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import Signature
from motoric.core import storage
from motoric.core.releases import ReleasedVersion
from motoric.serving.batching import Batcher, Outputs, Rows
from motoric.serving.bodies.encoding import AnswerEncoder
from motoric.serving.bodies.examples import empty_rows, input_names
from motoric.serving.bodies.requests import RequestDecoder
from motoric.serving.open_inference.metadata import ModelSpec, model_spec

logger = logging.getLogger(__name__)

INLINE_LIMIT_S = 2e-3
_NUM_WARM_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a replica runs its model.

    Attributes:
        num_threads: Of onnxruntime.
        gpu_fraction: Share of a GPU.
        max_windows: Most examples of a batch.
        max_wait_ms: How long a request waits for company.
        max_request_windows: Most examples of a request.
        max_body_bytes: Most bytes that a request's body may unpack to.
    """

    num_threads: int = 1
    gpu_fraction: float = 0.0
    max_windows: int = 32
    max_wait_ms: float = 0.0
    max_request_windows: int = 1024
    max_body_bytes: int = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One version, loaded and warm.

    Attributes:
        metrics: How good it is on people that training never saw: the figures without the tables.
    """

    model: str
    version: int
    digest: str
    signature: Signature
    spec: ModelSpec
    providers: tuple[str, ...]
    decoder: RequestDecoder
    batcher: Batcher
    encoder: AnswerEncoder
    metrics: dict[str, Any]
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
    signature = artefact.signature
    run = _runner(predictor)
    batch_s = _warm_up(run, signature, options.max_windows)
    inline = batch_s < INLINE_LIMIT_S
    return ServedModel(
        model=model,
        version=version.version,
        digest=artefact.digest,
        signature=signature,
        spec=model_spec(signature, model=model, version=version.version),
        providers=tuple(predictor.providers),
        decoder=RequestDecoder(
            signature,
            max_windows=options.max_request_windows,
            max_bytes=options.max_body_bytes,
        ),
        batcher=Batcher(
            run,
            max_windows=options.max_windows,
            max_wait_ms=options.max_wait_ms,
            inline=inline,
        ),
        encoder=AnswerEncoder(
            model=model,
            version=version.version,
            digest=artefact.digest,
            output=signature.output,
        ),
        metrics=_figures(artefact.uri),
        batch_s=batch_s,
        inline=inline,
        load_s=time.perf_counter() - started_s,
    )


def _figures(uri: str) -> dict[str, Any]:
    """The figures of `metrics.json`: tables stay in the artefact, since they name people."""
    by_name, _ = read_sums(uri)
    try:
        content = orjson.loads(read_file(uri, METRICS, by_name))
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        logger.warning(
            "%s of %s is no JSON object: the model is served without figures", METRICS, uri
        )
        return {}
    return {
        name: value
        for name, value in content.items()
        if name == "intervals" or not isinstance(value, (list, dict))
    }


def _runner(predictor: Predictor) -> Callable[[Rows], Outputs]:
    """The predictor as the batcher calls it."""
    names = input_names(predictor.signature)
    run = predictor.predict_checked
    if len(names) == 3:
        return lambda rows: run(*rows)
    if predictor.signature.sensor_input is not None:
        return lambda rows: run(rows[0])
    return lambda rows: run(None, rows[0])


def _warm_up(run: Callable[[Rows], Outputs], signature: Signature, max_windows: int) -> float:
    """Run one example, then full batches; returns the seconds of the fastest, since noise adds."""
    rows = empty_rows(signature, max_windows)
    run(tuple(values[:1] for values in rows))
    seconds = []
    for _ in range(_NUM_WARM_RUNS):
        started_s = time.perf_counter()
        run(rows)
        seconds.append(time.perf_counter() - started_s)
        if seconds[-1] > 100 * INLINE_LIMIT_S:  # a model of video: once is enough to know
            break
    return min(seconds)
