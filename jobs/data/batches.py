"""Batches of images: their order, and the conversion of uint8 images to the float tensors that networks take."""

from collections.abc import Iterator

import torch
from torch import Tensor

from jobs.data.datasets import ImageSet
from jobs.execution.seeding import Purpose, generator
from jobs.system.progress import progressed


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device. Copies to a GPU start from pinned memory, and this process does not wait."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def to_input(images_NCHW: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    """Convert uint8 images to float32 in [0, 1], N x 3 x H x W; a grey channel is repeated three times."""
    progressed()
    x = to_device(images_NCHW, device).to(torch.float32).div(255)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=memory_format)


def batch_indices(images: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Return the shuffled indices of each batch of an epoch (numbered from 1); a smaller last batch is kept."""
    order = torch.randperm(images, generator=generator(seed, Purpose.BATCH_ORDER, epoch))
    return list(torch.split(order, batch_size))


def in_order(
    images: ImageSet, batch_size: int, device: torch.device, memory_format: torch.memory_format
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images N x 3 x H x W and labels N in the order of the set, for evaluation."""
    for start in range(0, len(images.labels_N), batch_size):
        part = slice(start, start + batch_size)
        yield to_input(images.images_NCHW[part], device, memory_format), to_device(images.labels_N[part], device)
