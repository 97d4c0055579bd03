"""All randomness of a trial: named generators derived only from its seed.

A generator is created where it is needed, from the seed, a purpose and a position (epoch, batch). A restarted trial
therefore draws the same numbers as an uninterrupted one. Generators do not depend on source or blocks: trials that
differ only in those see the same images in the same order (docs/explanation/architecture.md).
"""

import hashlib
from enum import StrEnum

import torch


class Purpose(StrEnum):
    """What a stream of random numbers is used for; each purpose has its own stream."""

    SUBSET = "subset"
    FC_INIT = "fc-init"
    NETWORK_INIT = "network-init"
    BATCH_ORDER = "batch-order"
    AUGMENTATION = "augmentation"
    PERTURBATION = "perturbation"
    LAYER = "layer"


def generator(seed: int, purpose: Purpose, *position: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose at one position.

    Args:
        position: for example epoch (from 1) and batch (from 0); for a layer that draws, also its path in the network,
            and if it draws again in one batch, the number of this draw (from 2).
    """
    key = "/".join([str(seed), purpose.value, *map(str, position)])
    value = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    # manual_seed takes a signed 64-bit integer
    return torch.Generator(device="cpu").manual_seed(value >> 1)
