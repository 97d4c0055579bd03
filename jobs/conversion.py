"""From a checkpoint file to a source model of this machine: safetensors with torchvision's names, and a card.

Nothing in the file is run (``jobs.checkpoint_files``). Its network may stand under a prefix and in another precision;
what is not the network that the registry describes is refused, and then nothing is written.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jobs import registry
from jobs.checkpoint_files import Checkpoint, read_checkpoint
from jobs.download import writing
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.file_kinds import what_it_is
from jobs.files import open_file
from jobs.home import weights_directory
from jobs.networks import BUILDERS
from jobs.provenance import code_version, packages
from jobs.registry import Format, SourceCard
from jobs.source_files import weights_path
from jobs.weights import write_source

_NORMALISER_TOLERANCE = 1e-6  # float32's rounding of a mean or std
_NAMES_SHOWN = 5
_COUNTER = ".num_batches_tracked"
_DEEPEST = 8  # words before a network's own names
_WIDTHS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile and others put into names wherever they wrap a module."""
_FIRST = ("", "model", "state_dict", "model_state_dict")
"""Where the network stands, in a file that holds several: the others are averages of it, as a rule."""


class Converted(NamedTuple):
    """The tensors of a source's ResNet by torchvision's names, and how the file named them."""

    tensors: dict[str, Tensor]
    format: Format
    counters_added: bool
    """Whether the file is older than BatchNorm's counters of batches, which no number depends on."""
    taken_from: str
    """In words, where in the file they stand and in which precision: empty for float32 under the names themselves."""


class _Network(NamedTuple):
    """A place in a file that has all tensors of a network."""

    where: str
    prefix: str
    state: dict[str, Tensor]
    """All tensors of that set; those of the network have the prefix."""


def convert_source(
    path: Path, name: str, *, replace: bool = False, url: str | None = None, must_be: Format | None = None
) -> Path:
    """Make the source ``name`` of this machine from a checkpoint file.

    Args:
        path: a regular file of one of the formats of ``jobs.registry.Format``.
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
        what = f"{path} is {what_it_is(path)}" if path.exists() or path.is_symlink() else f"there is no file {path}"
        raise MissingData(Code.NO_SUCH_FILE, f"{what}; name a checkpoint file", file=path)
    converted = convert(path, card)
    if must_be is not None and converted.format != must_be:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} must be a {must_be} checkpoint of {name!r} and is a {converted.format} one; get the right one, or "
            "correct `format` in its card",
            file=path,
        )
    with open_file(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    original = {"file": path.name, "url": url, "sha256": sha256, "bytes": path.stat().st_size}
    facts = {
        "original": {
            **original,
            "format": converted.format,
            "taken_from": converted.taken_from,
            "known_beforehand": _known_beforehand(card, sha256),
        },
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
    expected = _expected_tensors(card)
    read = read_checkpoint(path)
    sets = {where: _unwrapped(state, path) for where, state in read.sets.items()}
    networks = [network for where, state in sets.items() for network in _networks(where, state, expected)]
    if not networks:
        _require_fit(_nearest(sets, expected), expected, card, path)
    network = _only(networks, path)
    form, state = _format(network, read), _under(network.prefix, network.state)
    if form == "robustness":
        outer = network.prefix.removesuffix("model.")
        _require_fit(state, expected, card, path)  # before numbers are looked at: shapes bound how many there are
        _require_robustness(_under(outer, network.state), card, path)
    elif other := [key for key in network.state if not key.startswith(network.prefix)]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has a {card.architecture} under {network.prefix!r} and other tensors beside it: {_some(other)}. "
            f"If they take no part in what it says of an image, save those under {network.prefix!r} alone, and convert "
            "that",
            file=path,
            key=other[0],
        )
    _require_fit(state, expected, card, path)
    counters_added = not any(key.endswith(_COUNTER) for key in state)
    tensors = {
        key: state[key].detach().to(meta.dtype, copy=True) if key in state else torch.zeros_like(meta, device="cpu")
        for key, meta in expected.items()
    }
    if infinite := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has numbers that are not finite in float32, in {_some(infinite)}; get it again",
            file=path,
            key=infinite[0],
        )
    return Converted(tensors, form, counters_added, _taken_from(network, networks, state))


def _unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors under the names that they have without wrappers."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _WRAPPERS.sub("", key)
        if name in found:
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS, f"{path} has {name} twice, wrapped and not: {key}", file=path, key=key
            )
        found[name] = tensor
    return found


def _networks(where: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[_Network]:
    """The prefixes under which a set of tensors has every name of a network; counters may lack."""
    needed = [name for name in expected if not name.endswith(_COUNTER)]
    return [
        _Network(where, prefix, state)
        for prefix in _prefixes(state, expected)
        if all(prefix + name in state for name in needed)
    ]


def _prefixes(state: dict[str, Tensor], expected: dict[str, Tensor]) -> Counter[str]:
    """How many of a network's names stand under each prefix of a set of tensors."""
    counts: Counter[str] = Counter()
    for key in state:
        words = key.split(".")
        for depth in range(min(len(words), _DEEPEST)):
            if ".".join(words[depth:]) in expected:
                counts["".join(f"{word}." for word in words[:depth])] += 1
    return counts


def _only(networks: list[_Network], path: Path) -> _Network:
    """The network that a file is of.

    Raises:
        DamagedFile: when it holds several and nothing says which it is.
    """
    rank = min(_rank(network.where) for network in networks)
    own = [network for network in networks if _rank(network.where) == rank and not _is_attackers(network, networks)]
    if len(own) > 1:
        places = [f"{network.prefix}* in {network.where or 'the file'}" for network in own]
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} holds {len(own)} networks ({_some(places)}), and nothing says which of them is meant; save the "
            "tensors of one alone, and convert that",
            file=path,
        )
    return own[0]


def _rank(where: str) -> int:
    return _FIRST.index(where) if where in _FIRST else len(_FIRST)


def _is_attackers(network: _Network, networks: list[_Network]) -> bool:
    """Whether it is the second copy that the robustness library's ``AttackerModel`` has of a network."""
    outer = network.prefix.removesuffix("attacker.model.")
    return outer != network.prefix and any(one.prefix == f"{outer}model." for one in networks)


def _format(network: _Network, read: Checkpoint) -> Format:
    outer = network.prefix.removesuffix("model.")
    beside = (f"{outer}normalizer.", f"{outer}attacker.")
    if outer != network.prefix and any(key.startswith(beside) for key in network.state):
        return "robustness"
    if network.prefix == "module.":
        return "data-parallel"
    return "safetensors" if read.is_safetensors else "torchvision"


def _taken_from(network: _Network, networks: list[_Network], state: dict[str, Tensor]) -> str:
    """In words; empty where there is nothing to say."""
    others = sorted({one.where for one in networks if one.where != network.where})
    widths = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    )
    return "; ".join(
        said
        for said in (
            f"under {network.prefix}" if network.prefix not in ("", "module.", "module.model.") else "",
            f"from {network.where}, not from {', '.join(others)}" if others else "",
            f"{' and '.join(widths)} made float32" if widths != ["float32"] else "",
        )
        if said
    )


def _nearest(sets: dict[str, dict[str, Tensor]], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a file that has no network whole, the tensors of which most have a network's names."""
    counts = {
        (where, prefix): count for where, state in sets.items() for prefix, count in _prefixes(state, expected).items()
    }
    if not counts:
        return min(sets.items(), key=lambda item: _rank(item[0]))[1]
    where, prefix = max(counts, key=lambda place: counts[place])
    return _under(prefix, sets[where])


def _require_robustness(state: dict[str, Tensor], card: SourceCard, path: Path) -> None:
    """Refuse what is no ``AttackerModel`` of the robustness library: a normaliser, the network, and an attacker that
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


def _require_normaliser(found: dict[str, Tensor], card: SourceCard, path: Path, what: str) -> None:
    if set(found) != {"new_mean", "new_std"}:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{what} has no whole normaliser: new_mean and new_std are needed, there is {_some(found)}",
            file=path,
        )
    for key, expected in (("new_mean", card.mean), ("new_std", card.std)):
        tensor = found[key]
        values = tensor.flatten().tolist() if tensor.numel() == len(expected) else [f"of shape {tuple(tensor.shape)}"]
        wanted = torch.tensor(expected).to(tensor.dtype).tolist()  # rounded as the file's are
        if len(values) != len(wanted) or any(
            not abs(value - there) <= _NORMALISER_TOLERANCE for value, there in zip(values, wanted, strict=True)
        ):
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS,
                f"{what} was normalised with other statistics than {card.name!r}: {key} is "
                f"{_rounded(values)}, its card says {list(expected)}; it is another source",
                file=path,
                key=key,
            )


def _rounded(values: list[Any]) -> list[Any]:
    return [round(value, 6) if isinstance(value, float) else value for value in values]


def _expected_tensors(card: SourceCard) -> dict[str, Tensor]:
    """Names, shapes and types of the card's architecture, without data."""
    with torch.device("meta"):
        return dict(BUILDERS[card.architecture](registry.dataset(card.test_dataset).labels).state_dict())


def _require_fit(state: dict[str, Tensor], expected: dict[str, Tensor], card: SourceCard, path: Path) -> None:
    shared = state.keys() & expected.keys()
    counted = any(key.endswith(_COUNTER) for key in state)
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(expected[k].shape)}"
        for k in expected
        if k in shared and state[k].shape != expected[k].shape
    ]
    kinds = [f"{k} {state[k].dtype}" for k in expected if k in shared and not _same_kind(state[k], expected[k])]
    found = {
        "missing": [key for key in expected if key not in shared and (counted or not key.endswith(_COUNTER))],
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


def _same_kind(tensor: Tensor, expected: Tensor) -> bool:
    """Whether its numbers are there and can be written in the expected type: floating point of any width for such."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return False
    return tensor.dtype in _WIDTHS if expected.dtype is torch.float32 else tensor.dtype == expected.dtype


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
