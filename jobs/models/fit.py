"""Whether tensors are those of an architecture, by names, shapes and types; and if not, what they are likely to be."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile
from jobs.models.checkpoint_files import some
from jobs.networks.builders import build

COUNTER = ".num_batches_tracked"
"""End of the names of BatchNorm's batch counters, which files written before torch 0.4.1 lack."""
_DEEPEST = 8  # maximum number of prefix components before a network's own names
_MOST_LABELS = 100_000  # of an unknown dataset, read from an untrusted file
_WIDTHS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FIRST = ("", "model", "state_dict", "model_state_dict")
"""Preferred locations of the network in a file with several; the others are usually averages of it."""


def expected_tensors(architecture: Architecture, labels: int) -> dict[str, Tensor]:
    """Return the tensors of a network of the architecture: names, shapes and types."""
    return dict(build(architecture, labels).model.state_dict())


def require_fit(
    state: dict[str, Tensor],
    expected: dict[str, Tensor],
    card: SourceCard,
    architecture: Architecture,
    path: Path,
) -> None:
    """Require that tensors have a network's names, shapes and types.

    Raises:
        DamagedFile: with the first differences, and what the tensors are likely to be.
    """
    shared = state.keys() & expected.keys()
    counted = any(key.endswith(COUNTER) for key in state)
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(expected[k].shape)}"
        for k in expected
        if k in shared and state[k].shape != expected[k].shape
    ]
    kinds = [f"{k} {state[k].dtype}" for k in expected if k in shared and not _same_kind(state[k], expected[k])]
    differences = {
        "missing": [key for key in expected if key not in shared and (counted or not key.endswith(COUNTER))],
        "unexpected": [key for key in state if key not in shared],
        "of another shape": shapes,
        "of another type": kinds,
    }
    if wrong := "; ".join(f"{len(keys)} {what} ({some(keys)})" for what, keys in differences.items() if keys):
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} is not the {card.architecture} of {card.name!r}, which has {len(expected)} tensors: {wrong}. "
            f"{_why(state, expected, card, architecture, kinds)}",
            file=path,
        )


def _why(
    state: dict[str, Tensor],
    expected: dict[str, Tensor],
    card: SourceCard,
    architecture: Architecture,
    kinds: list[str],
) -> str:
    """Return the likely cause of differences, with the fix.

    Args:
        kinds: tensors of another type.
    """
    if all(key in state and state[key].shape == tensor.shape for key, tensor in expected.items()) and kinds:
        return (
            "Its names and shapes are those of the network, but not all of its tensors are dense and of a type that "
            "converts to float32. Fix: save them in float32, and convert that file"
        )
    last = {f"{architecture.fc.modules}.weight", f"{architecture.fc.modules}.bias"}
    if {key for key in expected if key not in state and not key.endswith(COUNTER)} == last:
        return (
            f"It has no last layer {architecture.fc.modules}. Fix: save it with one, of zeros if you do not have it: "
            "fine-tuning replaces the last layer"
        )
    labels = labels_in({"": state}, architecture)
    same = {key: tensor.shape for key, tensor in expected_tensors(architecture, labels).items()}
    if same != {key: tensor.shape for key, tensor in expected.items()} and all(
        key in state and state[key].shape == shape for key, shape in same.items() if not key.endswith(COUNTER)
    ):
        return (
            f"It was trained on a dataset with {labels} labels; {card.test_dataset} has another number. Fix: correct "
            "trained_on in its card, or get the right file"
        )
    return "It is another network's checkpoint. Fix: get the right one, or correct architecture in its card"


def _same_kind(tensor: Tensor, expected: Tensor) -> bool:
    """Return whether a tensor has data that converts to the expected type; float32 accepts any floating-point width."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return False
    return tensor.dtype in _WIDTHS if expected.dtype is torch.float32 else tensor.dtype == expected.dtype


def labels_in(sets: dict[str, dict[str, Tensor]], architecture: Architecture) -> int:
    """Return the number of labels of the network in a file: the size of its last layer."""
    one, last = expected_tensors(architecture, 1), f"{architecture.fc.modules}.bias"
    for where in sorted(sets, key=rank):
        for prefix, _ in prefixes(sets[where], one).most_common():
            if (tensor := sets[where].get(prefix + last)) is not None and tensor.ndim:
                return min(len(tensor), _MOST_LABELS)
    return 1


def prefixes(state: dict[str, Tensor], expected: dict[str, Tensor]) -> Counter[str]:
    """Count how many of a network's names occur under each prefix of a set of tensors."""
    counts: Counter[str] = Counter()
    for key in state:
        words = key.split(".")
        for depth in range(min(len(words), _DEEPEST)):
            if ".".join(words[depth:]) in expected:
                counts["".join(f"{word}." for word in words[:depth])] += 1
    return counts


def rank(where: str) -> int:
    """Return the place of a location in the order of preference; the smallest is preferred."""
    return FIRST.index(where) if where in FIRST else len(FIRST)
