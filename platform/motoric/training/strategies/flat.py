"""A network's trained parameters as one flat vector, cut into slices, and back.

Axes: P numbers of all trained parameters, in the order of `named_parameters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each parameter lies in the vector.

    Attributes:
        names: Of the parameters.
        shapes: Of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Numbers in all."""
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def slices(self, num: int) -> list[slice]:
        """The vector cut into `num` parts that differ by one number at most."""
        ends = [self.size * index // num for index in range(num + 1)]
        return [slice(first, last) for first, last in pairwise(ends)]

    def split(self, vector_P: Vector) -> dict[str, Tensor]:
        """Tensors by name, which share the vector's memory."""
        parts = torch.split(torch.from_numpy(vector_P), self._sizes)
        return {
            name: part.view(shape)
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def join(self, tensors: Mapping[str, Tensor]) -> Vector:
        """The vector of tensors by name; one that is missing counts as zeros."""
        vector_P = np.zeros(self.size, dtype=np.float32)
        for name, part in self.split(vector_P).items():
            if name in tensors:
                part.copy_(tensors[name].detach())
        return vector_P


def layout_of(network: nn.Module) -> Layout:
    """The layout of a network's trained parameters."""
    trained = [(name, item) for name, item in network.named_parameters() if item.requires_grad]
    return Layout(
        names=tuple(name for name, _ in trained),
        shapes=tuple(tuple(item.shape) for _, item in trained),
    )
