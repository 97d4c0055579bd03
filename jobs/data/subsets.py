"""Random subsets of a training set that contain every label (paper, A.3)."""

import hashlib

import torch
from torch import Tensor

from jobs.errors import Code, InvalidRequest
from jobs.execution.seeding import Purpose, generator
from jobs.specs.base import ALL


def draw_subset(labels_N: Tensor, images: int, seed: int) -> Tensor:
    """Draw ``images`` training images without replacement, each label at least once; return their indices, ascending.

    In a random order of the whole set, the first image of every label is taken, then the earliest of the other images
    until the subset is full; 100 images of 100 labels are therefore exactly one of each. Given the same order, the
    paper's released code selects the same subset: it takes an image if more images remain to be chosen than labels are
    missing, or if the image's label is missing. Here subsets of different sizes are drawn independently; the released
    code draws all sizes from one order.

    Args:
        labels_N: the labels of the whole training set.
        images: the subset size, or -1 for the whole set in its own order.

    Raises:
        InvalidRequest: if the subset size is larger than the set or smaller than the number of labels.
    """
    total = len(labels_N)
    if images == ALL:
        return torch.arange(total)
    labels = len(torch.unique(labels_N))
    if not labels <= images <= total:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"expected a subset with at least one image of each of the {labels} labels and at most the {total} images "
            f"of the training set; got {images}",
            key="images",
        )
    order = torch.randperm(total, generator=generator(seed, Purpose.SUBSET, images))
    first = _first_of_each_label(labels_N[order])
    rest = torch.ones(total, dtype=torch.bool)
    rest[first] = False
    chosen = torch.cat([first, rest.nonzero().flatten()[: images - labels]])
    return order[chosen].sort().values


def subset_digest(indices: Tensor) -> str:
    """Return the sha256 of the indices as little-endian 64-bit integers."""
    return hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()


def _first_of_each_label(labels_N: Tensor) -> Tensor:
    """Return the position of each label's first occurrence, in the order of labels."""
    return torch.stack([(labels_N == label).nonzero()[0, 0] for label in torch.unique(labels_N)])
