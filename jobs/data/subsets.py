"""Random subsets of a training set in which every label occurs (paper, A.3)."""

import hashlib

import torch
from torch import Tensor

from jobs.errors import Code, InvalidRequest
from jobs.randomness import Purpose, generator
from jobs.specs import ALL


def draw_subset(labels_N: Tensor, images: int, seed: int) -> Tensor:
    """Indices of ``images`` training images, without replacement, each label at least once, ascending.

    Constructive: in one random order of the whole set, the first image of every label is taken, then
    the earliest of the others until the subset is full. So 100 images of 100 labels are exactly one of
    each. It is what the released code takes of that order: an image while more are to be chosen than labels are
    missing, or if its label is missing. Subsets of different sizes are drawn independently; there one order makes all.

    Args:
        labels_N: the labels of the whole training set.
        images: size of the subset, or -1 for the whole set in its own order.

    Raises:
        InvalidRequest: when the subset is larger than the set or smaller than the number of labels.
    """
    total = len(labels_N)
    if images == ALL:
        return torch.arange(total)
    labels = len(torch.unique(labels_N))
    if not labels <= images <= total:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"a subset has at least one image of each of the {labels} labels and at most the {total} images "
            f"of the training set; asked for {images}",
            key="images",
        )
    order = torch.randperm(total, generator=generator(seed, Purpose.SUBSET, images))
    first = _first_of_each_label(labels_N[order])
    rest = torch.ones(total, dtype=torch.bool)
    rest[first] = False
    chosen = torch.cat([first, rest.nonzero().flatten()[: images - labels]])
    return order[chosen].sort().values


def subset_digest(indices: Tensor) -> str:
    """The sha256 of the indices as little-endian 64-bit integers."""
    return hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()


def _first_of_each_label(labels_N: Tensor) -> Tensor:
    """The position of each label's first occurrence, in order of label."""
    return torch.stack([(labels_N == label).nonzero()[0, 0] for label in torch.unique(labels_N)])
