"""GPU memory of trials that share an actor, and the share of a card that it gives them. No torch."""

import math
from collections.abc import Iterable, Sequence

from jobs.catalog.costs import memory
from jobs.kind import Workload
from jobs.system.memory import GPU_RUNTIME_BYTES

SPARE = 1.25
"""Assumed factor for allocator fragmentation and library workspaces, relative to the tensors."""

_FLOAT32_BYTES = 4

_RAY_PARTS = 10_000
"""Ray counts GPUs in parts of this size."""


def bundle_memory(bundle: Sequence[Workload]) -> float:
    """Return the bytes of GPU memory that the actor of these trials needs (per GPU, with several replicas)."""
    work = bundle[0]
    batch = -(-work.batch_size // work.replicas)
    depths = [other.gradient_blocks for other in bundle]
    needed = memory(work.architecture, depths, batch, work.evaluation_batch_size, work.state_numbers, work.number_bytes)
    return GPU_RUNTIME_BYTES + SPARE * needed


def actor_memory(bundles: Iterable[Sequence[Workload]]) -> float:
    """Return the bytes of GPU memory that the largest actor needs, including matrices that it inverts as a whole."""
    return max(
        (
            bundle_memory(bundle) + max((work.matrix.bytes for work in bundle if work.matrix is not None), default=0)
            for bundle in bundles
        ),
        default=0.0,
    )


def remedies(bundles: Iterable[Sequence[Workload]]) -> str:
    """Return what to change if the largest of these actors does not fit on a card."""
    largest = max(bundles, key=lambda bundle: actor_memory([bundle]))
    network = bundle_memory(largest)
    if network < actor_memory([largest]) / 2:  # most of it is a matrix
        return "use a larger GPU"
    in_float32 = any(work.number_bytes == _FLOAT32_BYTES for work in largest)
    return "use a larger GPU" + (", smaller batches, or precision: bfloat16" if in_float32 else " or smaller batches")


def per_card(needed: float, card: float) -> int:
    """Return how many actors fit in the memory of a card at once; 0: not even one.

    Args:
        needed: bytes of an actor.
        card: bytes of the card.
    """
    return int(card / needed) if needed else 0


def even_share(needed: float, card: float) -> float:
    """Return the smallest share 1 / n of a card with enough memory for an actor; 1 if the card has not enough.

    It is rounded down to what Ray counts, so that n actors fit.
    """
    return math.floor(_RAY_PARTS / max(1, per_card(needed, card))) / _RAY_PARTS
