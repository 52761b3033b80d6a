"""Start a network from weights that lie in a file.

In: a network, and a `.safetensors`, `.pt` or `.pth` file of named tensors on a disk or in the
platform's object storage. Out: the network with every tensor that fits by name and shape, and the
list of both kinds. Nothing is ever fetched from a model hub, and a pickle that holds code is
refused unread (`torch.load(weights_only=True)`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from motoric.core import storage
from motoric.core.errors import NotFoundError, RecipeError

_SUFFIXES = (".safetensors", ".pt", ".pth")
_SCHEMES = frozenset({"file", "s3", "gs"})
# What training programs put around the names of a network, and around its tensors.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
_CONTAINERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedWeights:
    """What became of the tensors of a file.

    Args:
        loaded: Names in the network that now have the file's values.
        skipped: Names in the file that the network has not, or has with another shape, such as a
            head of other classes.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]


def load_weights(network: nn.Module, path: str | Path) -> LoadedWeights:
    """Copy into `network` the tensors of a file that fit by name and shape.

    Args:
        network: Changed in place; on any device.
        path: A local path, or a `file://`, `s3://` or `gs://` URI.

    Raises:
        RecipeError: The path is an address on the web or of a model hub, nothing lies there, it is
            no file of weights, it holds code or values that are not finite, or none of its tensors
            fits a parameter of the network.
    """
    place = str(path)
    tensors, skipped = _named_tensors(_content(place), place)
    own = network.state_dict()
    fitting: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = _own_name(name, own)
        if found is None or found in fitting or own[found].shape != tensor.shape:
            skipped.append(name)
        else:
            fitting[found] = tensor
    # The counters of normalisation layers fit in any network of the family: they say nothing.
    if not any(name in fitting for name, _ in network.named_parameters()):
        raise RecipeError(
            f"no tensor in the weights {place!r} fits the network by name and shape: they have"
            f" {_some(tensors)}; the network has {_some(own)}"
        )
    broken = [name for name, tensor in fitting.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise RecipeError(
            f"the weights {place!r} hold NaN or infinite values in {_some(broken)}: take another"
            " checkpoint"
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    return LoadedWeights(loaded=tuple(sorted(fitting)), skipped=tuple(sorted(skipped)))


def _content(place: str) -> Mapping[str, Any]:
    """The dictionary in a file."""
    scheme, separator, _ = place.partition("://")
    if separator and scheme not in _SCHEMES:
        raise RecipeError(
            f"weights {place!r} would come from a network: download the file, look where it is"
            " from, and give its path"
        )
    suffix = PurePosixPath(place).suffix.lower()
    if suffix not in _SUFFIXES:
        raise RecipeError(
            f"weights {place!r} do not end in {', '.join(_SUFFIXES)}: give the path of such a"
            " file; names of models on a hub are not looked up"
        )
    try:
        data = storage.read_bytes(place)
    except NotFoundError as error:
        raise RecipeError(f"weights: nothing lies at {place!r}: give an absolute path") from error
    except OSError as error:
        if storage.is_failure(error):
            raise
        raise RecipeError(f"weights {place!r} cannot be read: {error}") from error
    return _safetensors(data, place) if suffix == ".safetensors" else _torch_file(data, place)


def _safetensors(data: bytes, place: str) -> Mapping[str, Any]:
    try:
        return dict(load_safetensors(data))
    except SafetensorError as error:
        raise RecipeError(f"weights {place!r} is not a safetensors file: {error}") from error


def _torch_file(data: bytes, place: str) -> Mapping[str, Any]:
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RecipeError(
            f"weights {place!r} hold more than tensors, such as a whole model or other Python"
            " objects, and are not loaded because those may run code; or they are no file of"
            " torch.save. Save `network.state_dict()`, or a safetensors file"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RecipeError(f"weights {place!r} is not a file of torch.save: {error}") from error
    if not isinstance(content, Mapping):
        raise RecipeError(
            f"weights {place!r} hold a {type(content).__name__}, not named tensors: save"
            " `network.state_dict()`"
        )
    return content


def _named_tensors(content: Mapping[str, Any], place: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint, and the names of what else stands beside them."""
    while True:
        inner = [name for name in _CONTAINERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RecipeError(f"weights {place!r} hold no named tensors: save `network.state_dict()`")
    return tensors, [str(name) for name in content if str(name) not in tensors]


def _own_name(name: str, own: Mapping[str, Tensor]) -> str | None:
    """The name in the network, with as few prefixes taken off as it needs."""
    while name not in own:
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return None
        name = name.removeprefix(prefix)
    return name


def _some(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
