"""Names of tensors in files of older versions of torchvision, which torchvision renames when it loads them."""

import re
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

_RENAMED = (
    # DenseNets before torch 0.4 had dots in the names of layers; theirs are the files that torchvision publishes
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2.", ".denselayer1.norm1."),
    # ViTs before torchvision 0.14
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0.", ".encoder_layer_0.mlp.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3.", ".encoder_layer_0.mlp.3."),
)
"""Old names, new names, and a part of the names by which a network that has the new ones is recognized."""


def with_current_names(state: dict[str, T], expected: Iterable[str]) -> dict[str, T]:
    """Return the tensors of a file under the names that they have in a network of today.

    Args:
        state: tensors by the names in the file; those of other networks are returned as they are.
        expected: the names of the network's tensors.
    """
    names = [*expected]
    for old, new, sign in _RENAMED:
        if any(sign in name for name in names):
            renamed = {old.sub(new, key): tensor for key, tensor in state.items()}
            state = renamed if len(renamed) == len(state) else state
    return state
