"""From bytes in memory to the float batches that a network takes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from jobs.data.datasets import ImageSet
from jobs.progress import progressed
from jobs.randomness import Purpose, generator


def to_input(images_NCHW: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    """Bytes to float32 in [0, 1], N x 3 x H x W: a grey channel is repeated to three."""
    progressed()
    x = images_NCHW.to(device).to(torch.float32).div(255)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=memory_format)


def batch_indices(images: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The shuffled indices of each batch of an epoch (from 1); the last, smaller batch is kept."""
    order = torch.randperm(images, generator=generator(seed, Purpose.BATCH_ORDER, epoch))
    return list(torch.split(order, batch_size))


def in_order(
    images: ImageSet, batch_size: int, device: torch.device, memory_format: torch.memory_format
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images N x 3 x H x W and labels N in the order of the set, for evaluation."""
    for start in range(0, len(images.labels_N), batch_size):
        part = slice(start, start + batch_size)
        yield to_input(images.images_NCHW[part], device, memory_format), images.labels_N[part].to(device)
