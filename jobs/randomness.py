"""All randomness of a trial: named generators, derived from its seed and from nothing else.

A generator is made anew where it is needed, from the seed, a purpose and a position (epoch, batch),
so that a restarted trial draws what an uninterrupted one would have drawn. The purposes do not
mention the source or the blocks: trials that differ only in those see the same images in the same
order (design, promise 1).
"""

import hashlib
from enum import StrEnum

import torch


class Purpose(StrEnum):
    """What a stream of random numbers is for; each purpose has a stream of its own."""

    SUBSET = "subset"
    FC_INIT = "fc-init"
    NETWORK_INIT = "network-init"
    BATCH_ORDER = "batch-order"
    AUGMENTATION = "augmentation"
    PERTURBATION = "perturbation"


def generator(seed: int, purpose: Purpose, *position: int) -> torch.Generator:
    """A CPU generator for one purpose at one position (for example epoch and batch, from 0)."""
    key = "/".join([str(seed), purpose.value, *map(str, position)])
    value = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    # manual_seed takes a signed 64-bit integer
    return torch.Generator(device="cpu").manual_seed(value >> 1)
