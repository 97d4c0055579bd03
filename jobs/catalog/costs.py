"""FLOPs and memory of networks, from the cards of their architectures. No torch."""

from collections.abc import Collection
from typing import NamedTuple

from jobs.catalog.architecture_card import Architecture
from jobs.specs.base import ALL

_FLOAT = 4
"""Bytes of a float32 number."""


class Flops(NamedTuple):
    """FLOPs by purpose."""

    trunk: float = 0
    """Forward pass of the frozen part on training images."""
    head_forward: float = 0
    head_backward: float = 0
    """Twice the forward pass of the head, minus the gradient with respect to the head's input."""
    evaluation: float = 0
    attack: float = 0
    """Forward pass, and backward pass with respect to the image, in every PGD step."""

    @property
    def total(self) -> float:
        return sum(self)

    def plus(self, other: "Flops") -> "Flops":
        return Flops(*map(sum, zip(self, other, strict=True)))


def flops_evaluated_image(architecture: Architecture) -> int:
    """Return the FLOPs of one forward pass of one image."""
    trunk, head = architecture.split(ALL)
    return sum(part.flops for part in trunk + head)


def flops_trained_image(architecture: Architecture, blocks: int) -> Flops:
    """Return the FLOPs of training on one image: forward pass, and backward pass through the head."""
    trunk, head = architecture.split(blocks)
    forward = sum(part.flops for part in head)
    backward = 2 * forward - head[0].input_gradient
    return Flops(trunk=sum(part.flops for part in trunk), head_forward=forward, head_backward=backward)


def activation_bytes(architecture: Architecture, blocks: int, number_bytes: int = _FLOAT) -> int:
    """Return the bytes of one image's activations before the last ``blocks`` blocks; ``blocks`` is at least 0."""
    return architecture.split(blocks)[0][-1].stored(number_bytes).output


def parameters(architecture: Architecture, blocks: int = ALL) -> int:
    """Return the number of trained parameters if the last ``blocks`` blocks are fine-tuned; -1: the whole network."""
    return sum(part.parameters for part in architecture.split(blocks)[1])


def last_layer_inputs(architecture: Architecture) -> int:
    """Return the number of inputs of the last layer per image: the features, and a 1 for the bias."""
    return architecture.features + 1


def memory(
    architecture: Architecture,
    depths: Collection[int],
    batch_size: int,
    evaluation_batch_size: int,
    state_numbers: int = 1,
    number_bytes: int = _FLOAT,
) -> int:
    """Return the bytes of a trial's tensors: weights, gradients, the optimizer's state, and activations.

    Of the activations, the larger of those of a training step and of an evaluation step is counted.

    Args:
        depths: fine-tuned blocks of the trials that share an actor. The trials take their steps one after another;
            each has its own head, and what is frozen in any of them is stored once.
        state_numbers: numbers that the optimizer keeps per trained parameter.
        number_bytes: 4 in float32, 2 in 16 bits, where weights are converted at each use, and those of the trained
            layers are kept until the backward pass.
    """
    parts = [architecture.split(blocks) for blocks in depths]
    trunk = max((trunk for trunk, _ in parts), key=len)
    trained = sum(parameters(architecture, blocks) for blocks in depths)
    state = sum(part.parameters for part in trunk) + (2 + state_numbers) * trained
    images = 3 * _FLOAT * architecture.image_size**2
    kept = max(sum(part.stored(number_bytes).kept for part in head) for _, head in parts)
    step = max(kept, *(part.stored(number_bytes).peak for part in trunk), 0)
    forward = max(part.stored(number_bytes).peak for trunk, head in parts for part in trunk + head)
    activations = max(batch_size * (images + step), evaluation_batch_size * (images + forward))
    largest_head = max(parameters(architecture, blocks) for blocks in depths)
    converted = 0 if number_bytes == _FLOAT else number_bytes * largest_head
    return _FLOAT * state + activations + converted
