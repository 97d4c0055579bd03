"""Source models at rest: ``NAME.safetensors`` with torchvision's tensor names, beside it a card ``NAME.json``."""

import hashlib
import json
import os
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from jobs import registry
from jobs.errors import DamagedFile, MissingData
from jobs.home import weights_directory
from jobs.results import Store, open_store
from jobs.results.layout import trained_weights_key


class SourceWeights(NamedTuple):
    """The tensors of a source's ResNet, the normaliser not among them, and the sha256 of their file."""

    tensors: dict[str, Tensor]
    sha256: str


@lru_cache(maxsize=8)
def load_source(name: str) -> SourceWeights:
    """Load a source's weights from the package or from this machine's weights directory.

    Raises:
        MissingData: when the file is not on this machine.
        DamagedFile: when it is not a safetensors file, or not the one that its card describes.
    """
    path = weights_path(name)
    if not path.is_file():
        raise MissingData(
            f"the weights of source {name!r} are not on this machine; put them, as safetensors with torchvision's "
            f"tensor names, into {path}"
        )
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    card_path = path.with_suffix(".json")
    if card_path.is_file():
        expected = _card_sha256(card_path)
        if sha256 != expected:
            raise DamagedFile(f"{path} has the sha256 {sha256}, its card says {expected}; fetch or train it again")
    try:
        return SourceWeights(load(data), sha256)
    except SafetensorError as error:
        raise DamagedFile(f"{path} is not a safetensors file ({error}); fetch or train it again") from error


def source_weights(store: Store, name: str) -> SourceWeights:
    """A source's weights as a trial in this root reads them: those that a trial of the root has trained, else this
    machine's (``load_source``). Bundled sources are always the package's.

    Raises:
        MissingData, DamagedFile: as ``load_source``.
    """
    card = registry.source(name)
    if card.pretrain is not None and not card.bundled:
        key = trained_weights_key(card.pretrain_spec().trial_id)
        with suppress(FileNotFoundError):
            return _trained(store.uri, key)
    return load_source(name)


@lru_cache(maxsize=8)
def _trained(uri: str, key: str) -> SourceWeights:
    """Weights in a results root; once there they never change."""
    data = open_store(uri).read(key)
    try:
        return SourceWeights(load(data), hashlib.sha256(data).hexdigest())
    except SafetensorError as error:
        raise DamagedFile(
            f"{uri}/{key} is not a safetensors file ({error}); remove it and the result of its trial, then launch "
            "again to train it anew"
        ) from error


def _card_sha256(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(
            f"{path} is not the card of a source model ({error!r}); fetch or train the source again"
        ) from error


def weights_path(name: str) -> Path:
    """Where a source's weights lie or would lie; the source must be in the registry."""
    directory = bundled_directory() if registry.source(name).bundled else weights_directory()
    return directory / f"{name}.safetensors"


def bundled_directory() -> Path:
    """The folder of the package with the miniature's weights."""
    return Path(str(resources.files("jobs").joinpath("bundled")))


def write_source(directory: Path, name: str, tensors: dict[str, Tensor], card: dict[str, Any]) -> Path:
    """Write weights and card; each file appears whole or not at all. Returns the path of the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
    card = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), **card}
    path = directory / f"{name}.safetensors"
    _publish(path, data)
    _publish(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    return path


def _publish(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
