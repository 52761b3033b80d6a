"""How the clips of a signature are cut from a video, in training and in serving.

Axes: T frames, H height, W width, C colours. Needs PyAV, of the extra `ingest`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import ClipInput
from motoric.data.video.clips import ClipSpec

# Luma of ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def clip_spec(clip: ClipInput) -> ClipSpec:
    """How the clips of an input are cut."""
    return ClipSpec(
        num_frames=clip.num_frames,
        height=clip.height,
        width=clip.width,
        resize=clip.resize,
        region=clip.region,
        rate_hz=clip.rate_hz,
        length_s=clip.length_s,
        hop_s=clip.hop_s,
    )


def coloured(clip_THWC: NDArray[np.uint8], clip: ClipInput) -> NDArray[np.uint8]:
    """An RGB clip in the colours of an input: as it is, or grey, shape (T, H, W, 1)."""
    if clip.colour == "rgb":
        return clip_THWC
    grey_THWC: NDArray[np.uint8] = np.rint(clip_THWC @ _LUMA).astype(np.uint8)[..., None]
    return grey_THWC
