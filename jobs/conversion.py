"""From a checkpoint file to a source model of this machine: safetensors with torchvision's names, and a card.

A checkpoint is read without running anything that is in it: ``torch.load(weights_only=True)``, and beyond
what that allows a few types that only hold values. What is not exactly the network that the registry
describes is refused, and then nothing is written.
"""

import argparse
import hashlib
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from jobs import registry
from jobs.download import writing
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.home import weights_directory
from jobs.networks import BUILDERS
from jobs.provenance import code_version, packages
from jobs.registry import Format, SourceCard
from jobs.source_files import weights_path
from jobs.weights import write_source

_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_HOLD_VALUES_ONLY: list[Any] = [
    # what the robustness library saves beside the tensors: its arguments, and accuracies as numpy scalars
    argparse.Namespace,
    (argparse.Namespace, "cox.utils.Parameters"),  # read as a plain namespace; cox itself is not imported
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64")),
]
_UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)
"""What torch's reader raises on files that are cut off, or are something else."""

_NORMALISER_TOLERANCE = 1e-6  # float32's rounding of a mean or std
_NAMES_SHOWN = 5


class Converted(NamedTuple):
    """The tensors of a source's ResNet by torchvision's names, and how the file named them."""

    tensors: dict[str, Tensor]
    format: Format
    counters_added: bool
    """Whether the file is older than BatchNorm's counters of batches, which no number depends on."""


def convert_source(
    path: Path, name: str, *, replace: bool = False, url: str | None = None, must_be: Format | None = None
) -> Path:
    """Make the source ``name`` of this machine from a checkpoint file.

    Args:
        path: a file of one of the formats of ``jobs.registry.Format``.
        replace: put it in the place of other weights of that name.
        url: where the file was downloaded from, for the card.
        must_be: the only format accepted.

    Returns:
        The path of the weights; the card lies beside it.

    Raises:
        InvalidRequest: when the name takes no weights, or has others already.
        MissingData: when there is no such file.
        DamagedFile: when the file cannot be read without running code in it, or does not fit the registry's card.
        StorageFailure: when the weights cannot be written; nothing is left half done.
    """
    card = registry.source(name)
    if card.bundled or card.random:
        what = "part of the package" if card.bundled else "drawn from each trial's seed"
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"source {name!r} is {what}; give the file the name of a source without weights",
            key="--as",
        )
    if not path.is_file():
        raise MissingData(Code.NO_SUCH_FILE, f"there is no file {path}; name a checkpoint file", file=path)
    converted = convert(path, card)
    if must_be is not None and converted.format != must_be:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} must be a {must_be} checkpoint of {name!r} and is a {converted.format} one",
            file=path,
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    original = {"file": path.name, "url": url, "sha256": sha256, "bytes": path.stat().st_size}
    facts = {
        "original": {**original, "format": converted.format, "known_beforehand": _known_beforehand(card, sha256)},
        "batchnorm_counters": "zero, the file has none" if converted.counters_added else "the file's",
        "licence": card.licence,
        "code_version": code_version(),
        "packages": packages(),
    }
    with writing(weights_path(name)):
        return write_source(weights_directory(), name, converted.tensors, facts, replace=replace)


def convert(path: Path, card: SourceCard) -> Converted:
    """Read a checkpoint file and hold it against a source's card. Nothing in it is run; nothing is written.

    Raises:
        DamagedFile: naming what is wrong.
    """
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"
    state = _read_safetensors(path) if is_safetensors else _state(_read_pickle(path), path)
    behind_module = all(key.startswith("module.") for key in state)
    if behind_module:
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    form: Format = "data-parallel" if behind_module else "safetensors" if is_safetensors else "torchvision"
    if any(key.startswith("model.") for key in state):
        form, state = "robustness", _model_of_robustness(state, card, path)
    expected = _expected_tensors(card)
    counters = [key for key in expected if key.endswith(".num_batches_tracked")]
    counters_added = not any(key in state for key in counters)
    if counters_added:
        state |= {key: torch.zeros_like(expected[key], device="cpu") for key in counters}
    _require_fit(state, expected, card, path)
    return Converted({key: state[key].detach().clone() for key in expected}, form, counters_added)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS, f"{path} is not a whole safetensors file ({error}); get it again", file=path
        ) from error


def _read_pickle(path: Path) -> object:
    try:
        with safe_globals(_HOLD_VALUES_ONLY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of files that are refused below or in `_require_fit`
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        if asked is None:
            raise _no_checkpoint(path) from error
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} wants {asked[1]} when it is read, which could run code on this machine; it was refused, and "
            "nothing in it was run. If you trust whoever made it, read it where it can do no harm (a container without "
            "network), save its tensors alone with torch.save({'model': checkpoint['model']}, FILE), and convert FILE",
            file=path,
        ) from error
    except _UNREADABLE as error:
        raise _no_checkpoint(path) from error


def _no_checkpoint(path: Path) -> DamagedFile:
    return DamagedFile(
        Code.DAMAGED_WEIGHTS, f"{path} is not a checkpoint of torch, or is cut off; get it again", file=path
    )


def _state(checkpoint: object, path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors by name: the checkpoint itself, or what it holds as ``model`` or ``state_dict``."""
    found = checkpoint
    if isinstance(checkpoint, Mapping):
        inner = [checkpoint[key] for key in ("model", "state_dict") if isinstance(checkpoint.get(key), Mapping)]
        found = inner[0] if inner else checkpoint
    if not isinstance(found, Mapping) or not found:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} holds no tensors by name, alone or as 'model' or 'state_dict'; it is another file",
            file=path,
        )
    if other := [key for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has more than tensors among its weights: {_some(map(repr, other))}",
            file=path,
            key=str(other[0]),
        )
    return dict(found)


def _model_of_robustness(state: dict[str, Tensor], card: SourceCard, path: Path) -> dict[str, Tensor]:
    """The network out of the robustness library's ``AttackerModel``: a normaliser, the network, and an attacker that
    holds both once more.

    Raises:
        DamagedFile: when the normaliser is not the card's, or the attacker has another network or normaliser.
    """
    model = _under("model.", state)
    attacker = _under("attacker.", state)
    normaliser = _under("normalizer.", state)
    if other := [key for key in state if not key.startswith(("model.", "normalizer.", "attacker."))]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has tensors that the robustness library does not save: {_some(other)}",
            file=path,
            key=other[0],
        )
    _require_normaliser(normaliser, card, path, f"{path}")
    if attacker:
        _require_normaliser(_under("normalize.", attacker), card, path, f"the attacker in {path}")
        copy = _under("model.", attacker)
        differing = [key for key in model.keys() | copy.keys() if not _equal(model.get(key), copy.get(key))]
        if differing:
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS,
                f"{path}: the attacker's copy of the network is another network, in {_some(sorted(differing))}; "
                "such a file is not what the robustness library saves, get it again",
                file=path,
            )
    return model


def _require_normaliser(found: dict[str, Tensor], card: SourceCard, path: Path, what: str) -> None:
    if set(found) != {"new_mean", "new_std"}:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{what} has no whole normaliser: new_mean and new_std are needed, there is {_some(found)}",
            file=path,
        )
    for key, expected in (("new_mean", card.mean), ("new_std", card.std)):
        values = found[key].flatten().tolist()
        if len(values) != len(expected) or any(
            not abs(value - wanted) <= _NORMALISER_TOLERANCE for value, wanted in zip(values, expected, strict=True)
        ):
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS,
                f"{what} was normalised with other statistics than {card.name!r}: {key} is "
                f"{[round(value, 6) for value in values]}, the registry says {list(expected)}; it is another source",
                file=path,
                key=key,
            )


def _expected_tensors(card: SourceCard) -> dict[str, Tensor]:
    """Names, shapes and types of the card's architecture, without data."""
    with torch.device("meta"):
        return dict(BUILDERS[card.architecture](registry.dataset(card.test_dataset).labels).state_dict())


def _require_fit(state: dict[str, Tensor], expected: dict[str, Tensor], card: SourceCard, path: Path) -> None:
    shared = state.keys() & expected.keys()
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(expected[k].shape)}"
        for k in expected
        if k in shared and state[k].shape != expected[k].shape
    ]
    kinds = [f"{k} {state[k].dtype}" for k in expected if k in shared and not _same_kind(state[k], expected[k])]
    found = {
        "missing": [key for key in expected if key not in shared],
        "not part of it": [key for key in state if key not in shared],
        "of another shape": shapes,
        "of another type": kinds,
    }
    if wrong := "; ".join(f"{len(keys)} {what} ({_some(keys)})" for what, keys in found.items() if keys):
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} is not a {card.architecture} as {card.name!r} is, with {len(expected)} tensors: {wrong}. It is "
            "the checkpoint of another network; get the right one",
            file=path,
        )
    if infinite := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has numbers that are not finite, in {_some(infinite)}; get it again",
            file=path,
            key=infinite[0],
        )


def _same_kind(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.dtype == expected.dtype and tensor.layout is torch.strided and not tensor.is_meta


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def _some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "") if listed else "nothing"


def _known_beforehand(card: SourceCard, sha256: str) -> str:
    """Whether the registry knew the file's digest, in words."""
    release = card.release
    known = release and (release.sha256 or release.sha256_prefix)
    if not release or not known:
        return "no digest was known: this file is trusted on first use"
    if not sha256.startswith(known):
        return f"another file than the registry's, whose sha256 is {known}"
    return f"sha256 {known} ({release.known_from})"
