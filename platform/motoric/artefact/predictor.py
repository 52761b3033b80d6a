"""The predictor: an artefact in onnxruntime, the same for HTTP, the command line and tests.

In: raw windows (B, T, C) in the signature's units, clips (B, T, H, W, C) as bytes, or both. Out:
what the signature promises: probabilities (B, K), values (B, 1) or quantiles (B, Q).
"""

from __future__ import annotations

import logging
import os

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from motoric.artefact.files import LoadedArtefact, load_artefact
from motoric.artefact.preprocessing import Clips, Windows, check_clips, check_windows, prepare
from motoric.core.errors import ArtefactError, InputError

logger = logging.getLogger(__name__)

Probabilities = NDArray[np.float32]

# Names of the graph's inputs.
WINDOWS, CLIPS, PRESENT = "windows", "clips", "present"

# Keeps the memory of a call bounded, however many windows it is asked for.
_MAX_BATCH = 512
_MAX_CLIPS = 16


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
        self._windows_name = self._session.get_inputs()[0].name
        self.providers: list[str] = self._session.get_providers()

    @classmethod
    def load(cls, uri: str, **options: float) -> Predictor:
        """Load the artefact at `uri`."""
        return cls(load_artefact(uri), **options)  # type: ignore[arg-type]

    def predict(
        self,
        windows: NDArray[np.generic] | None = None,
        clips: NDArray[np.generic] | None = None,
        present: NDArray[np.bool_] | None = None,
    ) -> Probabilities:
        """Check, preprocess and run examples; a single one needs no batch axis.

        Args:
            windows: Shape (B, T, C) or (T, C).
            clips: Shape (B, T, H, W, C) or (T, H, W, C). A fused model takes either alone, or both
                of as many examples.
            present: Shape (B, 2), of a fused model: whether each example has its window (column 0)
                and its clip (column 1), where some lack one. By default all have what is given.

        Raises:
            InputError: They do not fit the signature, or one that is needed is missing.
        """
        windows_BTC, clips_BTHWC = self._check(windows, clips)
        given = windows_BTC if windows_BTC is not None else clips_BTHWC
        assert given is not None
        step = _MAX_BATCH if clips_BTHWC is None else _MAX_CLIPS
        if present is None:
            there = [windows_BTC is not None, clips_BTHWC is not None]
            present = np.tile(np.array(there, dtype=np.bool_), (len(given), 1))
        else:
            _check_present(present, windows_BTC, clips_BTHWC)
        parts = [
            self._run(
                None if windows_BTC is None else windows_BTC[first : first + step],
                None if clips_BTHWC is None else clips_BTHWC[first : first + step],
                present[first : first + step],
            )
            for first in range(0, len(given), step)
        ]
        return np.concatenate(parts)

    def predict_checked(
        self,
        windows_BTC: Windows | None = None,
        clips_BTHWC: Clips | None = None,
        present_B2: NDArray[np.bool_] | None = None,
    ) -> Probabilities:
        """Preprocess and run examples that `check_windows` and `check_clips` have passed.

        Args:
            windows_BTC: Of a model of sensors, and of a fused one.
            clips_BTHWC: Of a model of clips, and of a fused one.
            present_B2: Of a fused model, which has all three; what stands in an input that an
                example lacks has no influence.
        """
        return self._run(windows_BTC, clips_BTHWC, present_B2)

    def _check(
        self, windows: NDArray[np.generic] | None, clips: NDArray[np.generic] | None
    ) -> tuple[Windows | None, Clips | None]:
        sensors, clip = self.signature.sensor_input, self.signature.clip_input
        for name, given, wanted in (("windows", windows, sensors), ("clips", clips, clip)):
            if given is not None and wanted is None:
                raise InputError(f"this model takes no {name}")
            if given is None and wanted is not None and not wanted.optional:
                raise InputError(f"this model needs {name}")
        windows_BTC = clips_BTHWC = None
        if windows is not None and sensors is not None:
            windows_BTC = check_windows(windows, sensors)
        if clips is not None and clip is not None:
            clips_BTHWC = check_clips(clips, clip)
        if windows_BTC is None and clips_BTHWC is None:
            raise InputError("neither windows nor clips were sent")
        counts = {len(item) for item in (windows_BTC, clips_BTHWC) if item is not None}
        if len(counts) > 1:
            raise InputError(
                f"{' and '.join(map(str, sorted(counts)))} windows and clips were sent: send one of"
                " each an example"
            )
        return windows_BTC, clips_BTHWC

    def _run(
        self,
        windows_BTC: Windows | None,
        clips_BTHWC: Clips | None,
        present_B2: NDArray[np.bool_] | None,
    ) -> Probabilities:
        signature = self.signature
        inputs: dict[str, NDArray[np.generic]] = {}
        if windows_BTC is not None:
            prepared = prepare(windows_BTC, signature.preprocessing, signature.sensors)
            inputs[self._windows_name] = prepared
        if clips_BTHWC is not None:
            inputs[CLIPS] = clips_BTHWC
        if signature.sensor_input is not None and signature.clip_input is not None:
            assert present_B2 is not None
            num = len(present_B2)
            inputs[PRESENT] = present_B2.astype(np.float32)
            if windows_BTC is None:
                shape = (num, signature.sensors.num_samples, signature.num_prepared_channels)
                inputs[WINDOWS] = np.zeros(shape, dtype=np.float32)
            if clips_BTHWC is None:
                inputs[CLIPS] = np.zeros((num, *signature.clip_input.shape), dtype=np.uint8)
        found: Probabilities = self._session.run(None, inputs)[0]
        return found


def _check_present(
    present: NDArray[np.bool_], windows_BTC: Windows | None, clips_BTHWC: Clips | None
) -> None:
    """Check which examples are said to have which input.

    Raises:
        InputError: Another shape, an example without any, or an input that was not given.
    """
    given_first = windows_BTC if windows_BTC is not None else clips_BTHWC
    num = 0 if given_first is None else len(given_first)
    if present.shape != (num, 2) or not present.any(axis=1).all():
        raise InputError("present must be of shape (examples, 2), with one input or more each")
    for column, name, given in ((0, "windows", windows_BTC), (1, "clips", clips_BTHWC)):
        if given is None and present[:, column].any():
            raise InputError(f"present says that there are {name}, but none were sent")


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
