"""The states of all slices, made from the whole states that checkpoints hold, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from motoric.training.run import State
from motoric.training.strategies.flat import Layout
from motoric.training.strategies.parameter_slice import Arrays, SliceState

# The optimiser's count of updates: one number for all parameters.
_STEP = "step"


def cut(
    layout: Layout, weights: State, optimiser: State, *, num_steps: int, num_slices: int
) -> list[SliceState]:
    """What each of so many slices begins with.

    Args:
        layout: Of the network.
        weights: Of the whole network, with its buffers.
        optimiser: Its state by `<parameter>.<entry>`; empty at the beginning.
        num_steps: Updates of the run so far.
        num_slices: How many.
    """
    values_P = layout.join(weights)
    by_entry: dict[str, dict[str, Tensor]] = {}
    for key, value in optimiser.items():
        name, _, entry = key.rpartition(".")
        by_entry.setdefault(entry, {})[name] = value
    buffers: Arrays = {
        name: value.numpy() for name, value in weights.items() if name not in set(layout.names)
    }
    made = []
    for index, part in enumerate(layout.slices(num_slices)):
        entries: Arrays = {
            entry: np.asarray(max(float(value) for value in tensors.values()), dtype=np.float32)
            if entry == _STEP
            else layout.join(tensors)[part]
            for entry, tensors in by_entry.items()
        }
        made.append(
            SliceState(
                values_S=values_P[part],
                num_steps=num_steps,
                entries=entries,
                buffers=buffers if index == 0 else {},
            )
        )
    return made


def together(layout: Layout, states: Sequence[SliceState]) -> tuple[State, State]:
    """Weights with buffers, and the optimiser's state, of the whole network."""
    values_P = np.concatenate([item.values_S for item in states])
    weights = {name: value.clone() for name, value in layout.split(values_P).items()}
    weights |= {name: torch.from_numpy(np.array(v)) for name, v in states[0].buffers.items()}
    optimiser: State = {}
    for entry, first in states[0].entries.items():
        if first.ndim == 0:
            whole: Mapping[str, Tensor] = {
                name: torch.from_numpy(np.array(first)) for name in layout.names
            }
        else:
            joined_P = np.concatenate([item.entries[entry] for item in states]).astype(np.float32)
            whole = layout.split(joined_P)
        optimiser |= {f"{name}.{entry}": value.clone() for name, value in whole.items()}
    return weights, optimiser
