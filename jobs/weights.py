"""Source models at rest: ``NAME.safetensors`` with torchvision's tensor names, beside it a card ``NAME.json``."""

import hashlib
import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from jobs import registry
from jobs.canonical import digest
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.files import FileTooLarge, NotAFile, read_file
from jobs.results import Store, open_store
from jobs.results.layout import MOST_WEIGHTS_BYTES, trained_weights_key
from jobs.results.trained import require_trained
from jobs.source_files import read_card, weights_path
from jobs.specs import FinetuneSpec

_REMEDY = "fetch it again with --replace, or train it again"


class SourceWeights(NamedTuple):
    """The tensors of a source's ResNet, the normaliser not among them, and the sha256 of their file."""

    tensors: dict[str, Tensor]
    sha256: str


@lru_cache(maxsize=8)
def load_source(name: str) -> SourceWeights:
    """Load a source's weights from the package or from this machine's weights directory.

    A randomly initialised source has no tensors; its digest is that of the words for how it is drawn.

    Raises:
        MissingData: when the file is not on this machine.
        DamagedFile: when it is not a safetensors file, or not the one that its card describes.
    """
    source = registry.source(name)
    if source.random:
        return SourceWeights({}, digest({"drawn_by": "jobs.networks.initialise", "for": source.architecture}))
    path = weights_path(name)
    if not path.is_file():
        raise MissingData(
            Code.MISSING_WEIGHTS,
            f"the weights of source {name!r} are not on this machine (looked for {path}); get them with: "
            f"{source.how_to_get}",
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
            f"{path} has the sha256 {sha256}, its card says {card['sha256']}; {_REMEDY}",
            file=path,
        )
    try:
        return SourceWeights(load(data), sha256)
    except SafetensorError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS, f"{path} is not a safetensors file ({error}); {_REMEDY}", file=path
        ) from error


def source_weights(store: Store, name: str) -> SourceWeights:
    """A source's weights as a trial in this root reads them: those that a trial of the root has trained, else this
    machine's (``load_source``). Bundled sources are always the package's.

    Raises:
        MissingData, DamagedFile: as ``load_source``.
    """
    card = registry.source(name)
    if card.pretrain is not None and not card.bundled:
        made_by = card.pretrain_spec()
        key = trained_weights_key(made_by.trial_id)
        with suppress(FileNotFoundError):
            return _trained(store.uri, made_by.kind, made_by.trial_id)
        if name not in registry.packaged_sources() and not weights_path(name).is_file():
            raise MissingData(
                Code.MISSING_WEIGHTS,
                f"the weights of source {name!r} are not in {store.uri} ({key}): list it under `pretrain` in its study "
                f"and launch that, or run its trial {made_by.trial_id}: what was made and then removed is made again",
                file=f"{store.uri}/{key}",
            )
    return load_source(name)


def trained_weights(store: Store, trial_id: str) -> SourceWeights:
    """The network that a fine-tuning trial of this root left.

    Raises:
        MissingData: when its weights were not kept, or removed.
        DamagedFile: when they are no safetensors file, or not those that the trial left.
    """
    key = trained_weights_key(trial_id)
    try:
        return _trained(store.uri, FinetuneSpec.kind, trial_id)
    except FileNotFoundError as error:
        raise MissingData(
            Code.MISSING_WEIGHTS,
            f"the weights of {trial_id} are not in {store.uri}: launch the study, or run that trial of it; a "
            "trial that another one of its study examines leaves its weights, also when its result is there already",
            file=f"{store.uri}/{key}",
        ) from error


@lru_cache(maxsize=8)
def _trained(uri: str, kind: str, trial_id: str) -> SourceWeights:
    """Weights in a results root; a process reads them once."""
    store, key = open_store(uri), trained_weights_key(trial_id)
    data = store.read_within(key, MOST_WEIGHTS_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    require_trained(store, kind, trial_id, sha256)
    try:
        return SourceWeights(load(data), sha256)
    except SafetensorError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{uri}/{key} is not a safetensors file ({error}); remove it, then launch its study again: it is made "
            "again",
            file=f"{uri}/{key}",
        ) from error


def write_source(
    directory: Path, name: str, tensors: dict[str, Tensor], card: dict[str, Any], *, replace: bool = True
) -> Path:
    """Write weights and card; each file appears whole or not at all, the weights last.

    Returns:
        The path of the weights.

    Raises:
        InvalidRequest: when other weights stand there and are not to be replaced.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
    sha256 = hashlib.sha256(data).hexdigest()
    card = {"name": name, "sha256": sha256, **card}
    path = directory / f"{name}.safetensors"
    if not replace and path.is_file() and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} has other weights (sha256 {found}) than these (sha256 {sha256}), and a name stands for one set; "
            "--replace puts these in their place",
            file=path,
            key="--replace",
        )
    _publish({path.with_suffix(".json"): (json.dumps(card, indent=2) + "\n").encode(), path: data})
    return path


def _publish(files: dict[Path, bytes]) -> None:
    """Put files in their places, in order, once all of them are written."""
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, data in files.items():
            temporaries[path].write_bytes(data)
        for path, temporary in temporaries.items():
            temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
