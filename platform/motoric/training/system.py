"""The load of a training worker's process, as figures once an epoch."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Any

import psutil

logger = logging.getLogger(__name__)

_BYTES_PER_MB = 1e6


class SystemSampler:
    """Figures of this process, cheap enough for once an epoch; close it, or use it in a `with`.

    Args:
        with_gpu: Whether to look at the GPU that this process was given. A worker without one must
            say False: it may see the cards of others.
    """

    def __init__(self, *, with_gpu: bool = True) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # figures are since the call before; the first has none
        self._gpu = _open_gpu() if with_gpu else None

    def __enter__(self) -> SystemSampler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def sample(self) -> dict[str, float]:
        """Figures by metric name; those of a GPU are left out where none can be asked.

        `system/cpu_percent` is since the sample before, 100 for each busy core;
        `system/memory_rss_mb` in 10^6 bytes; `system/threads`; `system/gpu_utilisation` in percent
        of the time and `system/gpu_memory_mb` are of the whole card, whoever uses it.
        """
        with self._process.oneshot():
            figures = {
                "system/cpu_percent": self._process.cpu_percent(),
                "system/memory_rss_mb": self._process.memory_info().rss / _BYTES_PER_MB,
                "system/threads": float(self._process.num_threads()),
            }
        return figures if self._gpu is None else figures | self._gpu.sample()

    def close(self) -> None:
        """Let go of the GPU's library; samples after this have no figures of it."""
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None


class _Gpu:
    """The card of this process, asked by NVML, which needs no CUDA context."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def sample(self) -> dict[str, float]:
        nvml = self._nvml
        figures: dict[str, float] = {}
        try:
            used_bytes = nvml.nvmlDeviceGetMemoryInfo(self._handle).used
            figures["system/gpu_memory_mb"] = used_bytes / _BYTES_PER_MB
            # A slice of a card (MIG) tells its memory, and no utilisation.
            busy = nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
            figures["system/gpu_utilisation"] = float(busy)
        except nvml.NVMLError as error:
            logger.debug("the GPU does not say all: %s", error)
        return figures

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def _open_gpu() -> _Gpu | None:
    """The first GPU that CUDA would show this process; None where there is none to ask."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible in ("", "-1", "NoDevFiles"):
        return None
    try:
        import pynvml  # from the extra `gpu`
    except ImportError:
        logger.debug("no pynvml in %s: GPUs are not sampled", sys.prefix)
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        logger.debug("no GPU is sampled: %s", error)
        return None
    try:
        handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(visible))
            if visible.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(visible)
        )
    except pynvml.NVMLError as error:
        pynvml.nvmlShutdown()
        logger.debug("GPU %s cannot be asked: %s", visible, error)
        return None
    return _Gpu(pynvml, handle)
