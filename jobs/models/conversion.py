"""Convert a checkpoint file to a source model of this machine: safetensors with torchvision's names, and a card.

No code in the file is executed (``jobs.models.checkpoint_files``). The network in it may have a prefix and another
precision. A file that does not contain the network described by the catalogue is refused, and nothing is written.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import Catalog
from jobs.catalog.source_card import Format, SourceCard
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.models.checkpoint_files import Checkpoint, read_checkpoint, some
from jobs.models.fit import COUNTER, FIRST, expected_tensors, labels_in, prefixes, rank, require_fit
from jobs.models.older_names import with_current_names
from jobs.models.robustness_files import require_robustness, under
from jobs.models.weight_files import weights_path
from jobs.models.weights import write_source
from jobs.paths import weights_directory
from jobs.provenance import code_version, packages
from jobs.system.download import writing
from jobs.system.file_kinds import what_it_is
from jobs.system.files import open_file

_AVERAGES = "n_averaged"
"""The counter of torch's ``AveragedModel``, whose outputs do not depend on it."""
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Components that torch.compile and others insert into names wherever they wrap a module."""


class Converted(NamedTuple):
    """A source's ResNet tensors by torchvision's names, and how the file stored them."""

    tensors: dict[str, Tensor]
    format: Format
    counters_added: bool
    """Whether the file predates BatchNorm's batch counters, which affect no number."""
    taken_from: str
    """Location in the file, and precision, as text; empty for float32 tensors under their own names."""


class _Network(NamedTuple):
    """A location in a file with all tensors of a network."""

    where: str
    prefix: str
    state: dict[str, Tensor]
    """All tensors of that set; the network's names start with the prefix."""


def convert_source(
    path: Path,
    name: str,
    catalog: Catalog,
    *,
    replace: bool = False,
    url: str | None = None,
    must_be: Format | None = None,
    known_beforehand: str | None = None,
) -> Path:
    """Convert a checkpoint file to the source ``name`` of this machine.

    Args:
        path: a regular file in one of the formats of ``jobs.catalog.source_card.Format``.
        replace: replace other weights of that name; never those of a study's own file, whose digest is known.
        url: where the file was downloaded from, for the card.
        must_be: the only accepted format.
        known_beforehand: where the file's digest was known from, if neither the catalogue nor a study contained it.

    Returns:
        The path of the weights; the card is next to it.

    Raises:
        InvalidRequest: if the source has no weight file, or already has other weights.
        MissingData: if the file does not exist, or is not the one whose digest is in a study.
        DamagedFile: if the file cannot be read without executing code, or does not match the source's card.
        StorageFailure: if the weights cannot be written; no partial files are left.
    """
    card = catalog.source(name)
    if card.bundled or card.random:
        what = "part of the package" if card.bundled else "drawn from each trial's seed"
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"source {name!r} is {what}. Fix: give the file the name of a source without weights",
            key="--as",
        )
    if not path.is_file():
        what = f"{path} is {what_it_is(path)}" if path.exists() or path.is_symlink() else f"there is no file {path}"
        raise MissingData(Code.NO_SUCH_FILE, f"{what}. Fix: name a checkpoint file", file=path)
    sha256 = _digest(path)
    if card.weights_sha256 not in (None, sha256):
        raise MissingData(
            Code.OTHER_DIGEST,
            f"expected the file of source {name!r}, with the sha256 {card.weights_sha256}; {path} has the sha256 "
            f"{sha256}. Fix: use the original file, or correct weights_sha256 in its card",
            file=path,
            key="weights_sha256",
        )
    known = (card.weights or card.published) is None or card.test_dataset in catalog.datasets
    labels = catalog.dataset(card.test_dataset).labels if known else None
    converted = convert(path, card, catalog.architecture(card.architecture), labels)
    if must_be is not None and converted.format != must_be:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected {path} to be a {must_be} checkpoint of {name!r}; got a {converted.format} checkpoint. Fix: get "
            "the right file, or correct `format` in its card",
            file=path,
        )
    original: dict[str, Any] = {"file": path.name, "url": url, "sha256": sha256, "bytes": path.stat().st_size}
    if card.published is not None:
        original["published"] = card.published
    facts = {
        "name": name,
        "original": {
            **original,
            "format": converted.format,
            "taken_from": converted.taken_from,
            "known_beforehand": known_beforehand or _known_beforehand(card, sha256),
        },
        "batchnorm_counters": "zero, the file has none" if converted.counters_added else "the file's",
        "licence": card.licence,
        "code_version": code_version(),
        "packages": packages(),
    }
    with writing(weights_path(card)):
        return write_source(weights_directory(), card.file_stem, converted.tensors, facts, replace=replace)


def about_original(original: Mapping[str, Any]) -> str:
    """Describe the file that weights were converted from: its format, location of the network in it, precision, digest.

    Args:
        original: as in the card beside the weights.
    """
    how = f" ({original['taken_from']})" if original["taken_from"] else ""
    return f"{original['format']} checkpoint{how}, sha256 {original['sha256']}"


def convert(path: Path, card: SourceCard, architecture: Architecture, labels: int | None) -> Converted:
    """Read a checkpoint file and check it against a source's card, without executing code or writing anything.

    Args:
        path: the file.
        card: the card of the source.
        labels: number of labels of its FC layer; None: as in the file.

    Raises:
        DamagedFile: naming the problem.
    """
    read = read_checkpoint(path)
    sets = {where: _unwrapped(state, path) for where, state in read.sets.items()}
    expected = expected_tensors(architecture, labels or labels_in(sets, architecture))
    sets = {where: with_current_names(state, expected) for where, state in sets.items()}
    networks = [network for where, state in sets.items() for network in _networks(where, state, expected)]
    if not networks:
        require_fit(_nearest(sets, expected), expected, card, architecture, path)
    network = _only(networks, path)
    form, state = _format(network, read), under(network.prefix, network.state)
    if form == "robustness":
        outer = network.prefix.removesuffix("model.")
        require_fit(
            state, expected, card, architecture, path
        )  # first, because the shapes bound the amount of data read below
        require_robustness(under(outer, network.state), card, path)
    elif other := [key for key in network.state if not key.startswith(network.prefix) and key != _AVERAGES]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has a {card.architecture} under {network.prefix!r}, and other tensors besides: {some(other)}. "
            f"Fix: if they do not affect its outputs, save only the tensors under {network.prefix!r}, and convert that "
            "file",
            file=path,
            key=other[0],
        )
    require_fit(state, expected, card, architecture, path)
    counters_added = not any(key.endswith(COUNTER) for key in state)
    tensors = {
        key: state[key].detach().to(meta.dtype, copy=True) if key in state else torch.zeros_like(meta, device="cpu")
        for key, meta in expected.items()
    }
    # a buffer may have infinite numbers by design, such as a mask of attention
    if infinite := [key for key, t in tensors.items() if not (t.isfinite() | (t == expected[key])).all()]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected finite numbers in float32; {path} has others in {some(infinite)}. Fix: get it again",
            file=path,
            key=infinite[0],
        )
    return Converted(tensors, form, counters_added, _taken_from(network, networks, state))


def _unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove wrappers' components from the names of tensors."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _WRAPPERS.sub("", key)
        if name in found:
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS, f"{path} has {name} twice, with and without wrapper: {key}", file=path, key=key
            )
        found[name] = tensor
    return found


def _networks(where: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[_Network]:
    """Return the prefixes under which a set of tensors has every name of a network, batch counters excepted."""
    needed = [name for name in expected if not name.endswith(COUNTER)]
    return [
        _Network(where, prefix, state)
        for prefix in prefixes(state, expected)
        if all(prefix + name in state for name in needed)
    ]


def _only(networks: list[_Network], path: Path) -> _Network:
    """Select the network of a file.

    Raises:
        DamagedFile: if there are several candidates.
    """
    best = min(rank(network.where) for network in networks)
    own = [network for network in networks if rank(network.where) == best and not _is_attackers(network, networks)]
    if len(own) > 1:
        places = [f"{network.prefix}* in {network.where or 'the file'}" for network in own]
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected one network; {path} contains {len(own)} networks ({some(places)}). Fix: save only the "
            "tensors of the right one, and convert that file",
            file=path,
        )
    return own[0]


def _is_attackers(network: _Network, networks: list[_Network]) -> bool:
    """Return whether it is the second copy of a network in the robustness library's ``AttackerModel``."""
    outer = network.prefix.removesuffix("attacker.model.")
    return outer != network.prefix and any(other.prefix == f"{outer}model." for other in networks)


def _format(network: _Network, read: Checkpoint) -> Format:
    outer = network.prefix.removesuffix("model.")
    beside = (f"{outer}normalizer.", f"{outer}attacker.")
    if outer != network.prefix and any(key.startswith(beside) for key in network.state):
        return "robustness"
    if network.prefix == "module.":
        return "data-parallel"
    return "safetensors" if read.is_safetensors else "torchvision"


def _taken_from(network: _Network, networks: list[_Network], state: dict[str, Tensor]) -> str:
    """Describe location and precision of the network; empty if both are the default."""
    others = sorted({other.where for other in networks if other.where != network.where})
    widths = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    )
    return "; ".join(
        note
        for note in (
            f"under {network.prefix}" if network.prefix not in ("", "module.", "module.model.") else "",
            f"from {network.where}, not from {', '.join(others)}"
            if others
            else (f"from {network.where}" if network.where not in FIRST else ""),
            f"{' and '.join(widths)} converted to float32" if widths != ["float32"] else "",
        )
        if note
    )


def _nearest(sets: dict[str, dict[str, Tensor]], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with most of a network's names, in a file without a complete network."""
    counts = {
        (where, prefix): count for where, state in sets.items() for prefix, count in prefixes(state, expected).items()
    }
    if not counts:
        return min(sets.items(), key=lambda item: rank(item[0]))[1]
    where, prefix = max(counts, key=lambda place: counts[place])
    return under(prefix, sets[where])


def _known_beforehand(card: SourceCard, sha256: str) -> str:
    """Describe whether the catalogue or the study contains the file's digest."""
    if card.weights_sha256 is not None:
        return "sha256 as in the study"
    release = card.release
    known = release and (release.sha256 or release.sha256_prefix)
    if not release or not known:
        return "no digest was known: this file is trusted on first use"
    if not sha256.startswith(known):
        return f"not the published file, whose sha256 is {known}"
    return f"sha256 {known} ({release.known_from})"


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
