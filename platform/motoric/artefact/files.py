"""An artefact as files: names, digests, and loading without pickle.

- `model.onnx`: one graph, dynamic batch; what `prepare` gives in, probabilities out
- `weights.safetensors`: the network's weights, to train on
- `recipe.yaml`: so that the network can be rebuilt
- `signature.json`: what it takes and gives
- `metrics.json`: on held-out subjects, with the per-subject table
- `card.md`: the same for a person
- `SHA256SUMS`: digests of the files above, in the format of `sha256sum -c`

The SHA-256 of `SHA256SUMS` is the artefact's digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from motoric.artefact.signature import Signature, parse_signature
from motoric.core import storage
from motoric.core.errors import ArtefactError, NotFoundError

MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
RECIPE = "recipe.yaml"
SIGNATURE = "signature.json"
METRICS = "metrics.json"
CARD = "card.md"
SUMS = "SHA256SUMS"
REQUIRED = (MODEL, WEIGHTS, RECIPE, SIGNATURE, METRICS, CARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedArtefact:
    """What a predictor needs of an artefact."""

    uri: str
    digest: str
    signature: Signature
    model: bytes


def sums(files: Mapping[str, bytes]) -> bytes:
    """The content of SHA256SUMS for `files`."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def digest_of(sums_content: bytes) -> str:
    """The digest of an artefact, from its SHA256SUMS."""
    return f"sha256:{hashlib.sha256(sums_content).hexdigest()}"


def write_artefact(uri: str, files: Mapping[str, bytes]) -> str:
    """Write an artefact under `uri`; SHA256SUMS last, as the commit. Returns the digest.

    Raises:
        ArtefactError: A required file is missing.
    """
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise ArtefactError(f"an artefact needs {', '.join(missing)}")
    content = sums(files)
    for name, data in files.items():
        storage.write_bytes(storage.join(uri, name), data)
    storage.write_bytes(storage.join(uri, SUMS), content)
    return digest_of(content)


def read_sums(uri: str) -> tuple[dict[str, str], str]:
    """Digests by file name, and the digest of the artefact.

    Raises:
        ArtefactError: There is no artefact at `uri`.
    """
    try:
        content = storage.read_bytes(storage.join(uri, SUMS))
    except NotFoundError as error:
        raise ArtefactError(f"{uri} is not an artefact: it has no {SUMS}") from error
    by_name = {}
    for line in content.decode().splitlines():
        digest, _, name = line.partition("  ")
        by_name[name] = digest
    return by_name, digest_of(content)


def read_file(uri: str, name: str, by_name: Mapping[str, str]) -> bytes:
    """Read one file of an artefact and check it.

    Raises:
        ArtefactError: It is missing, or was changed after it was written.
    """
    try:
        content = storage.read_bytes(storage.join(uri, name))
    except NotFoundError as error:
        raise ArtefactError(f"{uri} lacks {name}") from error
    if hashlib.sha256(content).hexdigest() != by_name.get(name):
        raise ArtefactError(
            f"{name} in {uri} was changed after it was written: its SHA-256 differs"
        )
    return content


def load_artefact(uri: str, expected_digest: str | None = None) -> LoadedArtefact:
    """Read and check what a predictor needs.

    Raises:
        ArtefactError: Missing or changed files, or a digest other than `expected_digest`.
    """
    by_name, digest = read_sums(uri)
    if expected_digest is not None and digest != expected_digest:
        raise ArtefactError(f"{uri} has digest {digest}, the release names {expected_digest}")
    signature = parse_signature(read_file(uri, SIGNATURE, by_name), f"{uri}/{SIGNATURE}")
    return LoadedArtefact(
        uri=uri, digest=digest, signature=signature, model=read_file(uri, MODEL, by_name)
    )
