"""What the architectures cost in operations and memory, from a packaged table. No torch.

``costs.yaml`` is written by ``scripts/count_costs.py``, which counts them on the real networks.
"""

from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml

from jobs.specs import ALL

_FLOAT = 4
"""Bytes of a float32 number."""

_FC_LABELS = 1000
"""Labels of the FC layer in the table."""


class Part(NamedTuple):
    """One part of a network, for one image."""

    flops: int
    """Operations (two a multiply-add) of a forward pass."""
    input_gradient: int
    """Those of the backward pass to its input, which the first part of a head does not need."""
    parameters: int
    kept: int
    """Bytes that a forward pass keeps for the backward pass."""
    peak: int
    """The most bytes that a forward pass without gradients holds at once."""
    output: int
    """Bytes of what it hands on: pooled features, for the last block."""


class Costs(NamedTuple):
    """An architecture's parts, in order; FC with 1,000 labels."""

    stem: Part
    blocks: tuple[Part, ...]
    fc: Part

    def split(self, blocks: int) -> tuple[list[Part], list[Part]]:
        """Trunk and head when the last ``blocks`` blocks are fine-tuned; -1: all is head."""
        parts = [self.stem, *self.blocks]
        cut = 0 if blocks == ALL else len(parts) - blocks
        return parts[:cut], [*parts[cut:], self.fc]


class Flops(NamedTuple):
    """Operations, by what they are for."""

    trunk: float = 0
    """The frozen part's forward pass on training images."""
    head_forward: float = 0
    head_backward: float = 0
    """Twice its forward pass, less the gradient to the head's input."""
    evaluation: float = 0
    attack: float = 0
    """Forward and backward to the image in every step of PGD."""

    @property
    def total(self) -> float:
        return sum(self)

    def plus(self, other: "Flops") -> "Flops":
        return Flops(*map(sum, zip(self, other, strict=True)))


def flops_evaluated_image(architecture: str) -> int:
    """One image forward."""
    trunk, head = costs(architecture).split(ALL)
    return sum(part.flops for part in trunk + head)


def flops_trained_image(architecture: str, blocks: int) -> Flops:
    """One image forward, and backward through the head."""
    trunk, head = costs(architecture).split(blocks)
    forward = sum(part.flops for part in head)
    backward = 2 * forward - head[0].input_gradient
    return Flops(trunk=sum(part.flops for part in trunk), head_forward=forward, head_backward=backward)


def activation_bytes(architecture: str, blocks: int) -> int:
    """Of one image's activations at the cut before the last ``blocks`` blocks, at least 0."""
    return costs(architecture).split(blocks)[0][-1].output


def parameters(architecture: str, blocks: int = ALL) -> int:
    """Numbers that are trained when the last ``blocks`` blocks are; -1: all of the network."""
    return sum(part.parameters for part in costs(architecture).split(blocks)[1])


def last_layer_inputs(architecture: str) -> int:
    """Numbers that the FC layer takes of each image: its pooled features, and a 1 for the bias."""
    return costs(architecture).fc.parameters // _FC_LABELS


def memory(architecture: str, depths: Collection[int], batch_size: int, evaluation_batch_size: int) -> int:
    """Bytes that tensors of a trial need at once: weights, gradients, momentum, and the larger of a training step's
    and an evaluation step's activations.

    Args:
        depths: the trained blocks of the trials that share an actor: each holds its head, takes its step after the
            others', and what is frozen in any is held once.
    """
    parts = [costs(architecture).split(blocks) for blocks in depths]
    trunk = max((trunk for trunk, _ in parts), key=len)
    state = sum(part.parameters for part in trunk) + 3 * sum(parameters(architecture, blocks) for blocks in depths)
    kept = max(sum(part.kept for part in head) for _, head in parts)
    step = kept + max((part.peak for part in trunk), default=0)
    forward = max(part.peak for trunk, head in parts for part in trunk + head)
    return _FLOAT * state + max(batch_size * step, evaluation_batch_size * forward)


@cache
def costs(architecture: str) -> Costs:
    """The costs of an architecture of the registry."""
    text = resources.files(__package__).joinpath("costs.yaml").read_text(encoding="utf-8")
    parts = yaml.safe_load(text)[architecture]
    return Costs(Part(**parts["stem"]), tuple(Part(**part) for part in parts["blocks"]), Part(**parts["fc"]))
