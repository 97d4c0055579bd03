"""Source models on disk: ``NAME.safetensors`` with torchvision's tensor names, and a card ``NAME.json`` next to it."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from jobs.catalog.catalog import how_to_get
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.models.storable import saved
from jobs.models.weight_files import read_card, weights_path
from jobs.results import open_store
from jobs.results.layout import MOST_WEIGHTS_BYTES, trained_weights_key
from jobs.results.trained import require_trained
from jobs.specs.canonical import digest
from jobs.system.files import FileTooLarge, NotAFile, read_file, write_files

_REMEDY = "fetch it again with --replace, or train it again"


class SourceWeights(NamedTuple):
    """The tensors of a source's ResNet, without the normalizer, and the sha256 of their file."""

    tensors: dict[str, Tensor]
    sha256: str


@lru_cache(maxsize=8)
def load_source(source: SourceCard) -> SourceWeights:
    """Load a source's weights from the package or from this machine's weights directory.

    A randomly initialized source has no tensors; its digest is that of a description of the initialization.

    Raises:
        MissingData: if the file is not on this machine.
        DamagedFile: if it is not a safetensors file, differs from its card, or was converted from another file than the
            one whose digest the study has.
    """
    name = source.name
    if source.random:
        # the words of 0.1.0, whatever the function is called now: results roots record this digest
        return SourceWeights({}, digest({"drawn_by": "jobs.networks.initialise", "for": source.architecture}))
    path = weights_path(source)
    if not path.is_file():
        raise MissingData(
            Code.MISSING_WEIGHTS,
            f"the weights of source {name!r} are not on this machine (expected {path}). Fix: get them with: "
            f"{how_to_get(source)}",
            file=path,
        )
    try:
        data = read_file(path, MOST_WEIGHTS_BYTES)
    except (NotAFile, FileTooLarge) as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS, f"expected the weights of a source; {error}. Fix: remove it, and {_REMEDY}", file=path
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    card = read_card(path)
    if card is not None and sha256 != card["sha256"]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has the sha256 {sha256}; its card has {card['sha256']}. Fix: {_REMEDY}",
            file=path,
        )
    original = (card or {}).get("original")
    # the source of a stranger's study may have the name of this file
    if original and source.weights_sha256 not in (None, original["sha256"]):
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected {path} to be converted from the file with the sha256 {source.weights_sha256}; its card has "
            f"{original['sha256']}. Fix: {_REMEDY}",
            file=path,
        )
    try:
        return SourceWeights(load(data), sha256)
    except SafetensorError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS, f"{path} is not a safetensors file ({error}). Fix: {_REMEDY}", file=path
        ) from error


@lru_cache(maxsize=8)
def weights_in_root(uri: str, kind: str, trial_id: str) -> SourceWeights:
    """Return weights from a results root; they are read once per process."""
    store, key = open_store(uri), trained_weights_key(trial_id)
    data = store.read_within(key, MOST_WEIGHTS_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    require_trained(store, kind, trial_id, sha256)
    try:
        return SourceWeights(load(data), sha256)
    except SafetensorError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{uri}/{key} is not a safetensors file ({error}). Fix: remove it and launch its study again, which "
            "recreates it",
            file=f"{uri}/{key}",
        ) from error


def write_source(
    directory: Path, stem: str, tensors: dict[str, Tensor], card: dict[str, Any], *, replace: bool = True
) -> Path:
    """Write weights and card. Each file is written atomically, the weights last.

    Args:
        directory: where to write them; it is created.
        stem: name of both files, without extension, and of the source unless its card says otherwise.
        tensors: the weights.
        card: facts about them.
        replace: replace other weights.

    Returns:
        The path of the weights.

    Raises:
        InvalidRequest: if other weights are present and ``replace`` is false.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = saved(tensors)
    sha256 = hashlib.sha256(data).hexdigest()
    card = {"name": stem, "sha256": sha256, **card}
    path = directory / f"{stem}.safetensors"
    if not replace and path.is_file() and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} has other weights (sha256 {found}) than these (sha256 {sha256}), and a name stands for one set "
            "of weights. Fix: --replace replaces them",
            file=path,
            key="--replace",
        )
    write_files({path.with_suffix(".json"): (json.dumps(card, indent=2) + "\n").encode(), path: data})
    return path
