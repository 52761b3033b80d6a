"""The predictor: an artefact in onnxruntime, the same for HTTP, the command line and tests.

In: raw windows (B, T, C) in the signature's units. Out: probabilities (B, K).
"""

from __future__ import annotations

import logging
import os

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from motoric.artefact.files import LoadedArtefact, load_artefact
from motoric.artefact.preprocessing import Windows, check_windows, prepare
from motoric.core.errors import ArtefactError

logger = logging.getLogger(__name__)

Probabilities = NDArray[np.float32]

# Keeps the memory of a call bounded, however many windows it is asked for.
_MAX_BATCH = 512


class Predictor:
    """Runs one artefact.

    Args:
        artefact: A checked artefact.
        num_threads: Threads of onnxruntime.
        gpu_fraction: Share of a GPU that may be used; 0 runs on the CPU. Ray only counts fractions,
            so the share is enforced here by onnxruntime's memory limit.

    Raises:
        ArtefactError: onnxruntime cannot load the graph.
    """

    def __init__(
        self, artefact: LoadedArtefact, *, num_threads: int = 1, gpu_fraction: float = 0.0
    ) -> None:
        self.artefact = artefact
        self.signature = artefact.signature
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                artefact.model, options, providers=_providers(gpu_fraction)
            )
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ArtefactError(f"{artefact.uri}: the ONNX graph does not load: {error}") from error
        self._input = self._session.get_inputs()[0].name
        self.providers: list[str] = self._session.get_providers()

    @classmethod
    def load(cls, uri: str, **options: float) -> Predictor:
        """Load the artefact at `uri`."""
        return cls(load_artefact(uri), **options)  # type: ignore[arg-type]

    def predict(self, windows: NDArray[np.generic]) -> Probabilities:
        """Check, preprocess and run windows of shape (B, T, C) or (T, C).

        Raises:
            InputError: They do not fit the signature.
        """
        checked_BTC = check_windows(windows, self.signature.sensors)
        parts = [
            self.predict_checked(checked_BTC[first : first + _MAX_BATCH])
            for first in range(0, len(checked_BTC), _MAX_BATCH)
        ]
        return np.concatenate(parts)

    def predict_checked(self, windows_BTC: Windows) -> Probabilities:
        """Preprocess and run windows that `check_windows` has passed."""
        prepared_BTC = prepare(windows_BTC, self.signature.preprocessing, self.signature.sensors)
        probabilities_BK: Probabilities = self._session.run(None, {self._input: prepared_BTC})[0]
        return probabilities_BK


def _providers(gpu_fraction: float) -> list[str | tuple[str, dict[str, str]]]:
    if gpu_fraction <= 0:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        logger.warning(
            "gpu: %g was asked for, but this onnxruntime has no CUDA: the model runs on the CPU",
            gpu_fraction,
        )
        return ["CPUExecutionProvider"]
    limit = int(gpu_fraction * _gpu_memory_bytes())
    options = {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _gpu_memory_bytes() -> int:
    """Memory of the GPU that Ray gave this process, by NVML, which needs no CUDA context."""
    import pynvml  # from the extra `gpu`

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    pynvml.nvmlInit()
    try:
        handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(visible))
            if visible.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(visible)
        )
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    finally:
        pynvml.nvmlShutdown()
