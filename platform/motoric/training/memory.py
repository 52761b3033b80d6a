"""The memory a worker may use, and errors that say which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from motoric.core.errors import RecipeError

_GIB = 2**30
_ALLOCATOR = ("can't allocate memory", "not enough memory", "bad_alloc")


class MemoryLimit:
    """The resident memory of this process against a recipe's limit.

    Args:
        limit_gib: `resources.memory_gib_per_worker`; None never complains.
    """

    def __init__(self, limit_gib: float | None) -> None:
        self._limit = None if limit_gib is None else limit_gib * _GIB
        self._process = psutil.Process()

    def check(self, what: str) -> None:
        """Refuse to go on above the limit.

        Raises:
            RecipeError: This process holds more; `what` says after which step.
        """
        if self._limit is None:
            return
        info = self._process.memory_info()
        # Pages of mapped files count as resident, but the system takes them back when it needs to.
        used = info.rss - getattr(info, "shared", 0)
        if used > self._limit:
            raise RecipeError(
                f"after {what} the worker holds {used / _GIB:.2f} GiB, over"
                f" resources.memory_gib_per_worker ({self._limit / _GIB:g}): lower"
                " train.batch_size, clip.height, clip.width or clip.num_frames, raise window.hop_s,"
                " or raise the limit"
            )


@contextmanager
def batches_that_fit(batch_size: int, device: str) -> Iterator[None]:
    """Turn a failed allocation into an error that names the setting.

    Args:
        batch_size: Examples of one worker's batch.
        device: The network's.

    Raises:
        RecipeError: An allocation failed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(batch_size, device) from error
    except RuntimeError as error:
        if any(text in str(error) for text in _ALLOCATOR):
            raise _too_large(batch_size, device) from error
        raise


def _too_large(batch_size: int, device: str) -> RecipeError:
    where = "the GPU" if device.startswith("cuda") else "the worker's memory"
    return RecipeError(
        f"a batch of {batch_size} examples does not fit {where}: lower train.batch_size, or the"
        " network's width (model.*), clip.height, clip.width and clip.num_frames"
    )
