"""Images of a dataset that stay on the GPU, where they fit: each is copied there once, not for every batch.

Shape suffixes: N images, C channels, H height, W width.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.data.batches import to_device
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.resize import Images
from jobs.data.whole_image import WholeImages
from jobs.execution.gpu_memory import images_room, refusals


class DeviceImages:
    """uint8 images N x C x H x W on a device, each copied there when it is first selected."""

    def __init__(self, images: Images, device: torch.device) -> None:
        """
        Raises:
            torch.OutOfMemoryError: if the device has no room for all of them.
        """
        self._images = images
        self._copied_NCHW = torch.empty(tuple(images.shape), dtype=torch.uint8, device=device)
        self._is_copied_N = torch.zeros(len(images), dtype=torch.bool)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._copied_NCHW.shape)

    def __len__(self) -> int:
        return len(self._copied_NCHW)

    def __getitem__(self, images: slice | Tensor, /) -> Tensor:
        """Return some of the images on the device. A slice is a view, not to be changed."""
        device, chosen_N = self._copied_NCHW.device, torch.zeros(len(self), dtype=torch.bool)
        chosen_N[images] = True
        missing_N = (chosen_N & ~self._is_copied_N).nonzero().flatten()
        if len(missing_N):
            self._copied_NCHW[to_device(missing_N, device)] = to_device(self._images[missing_N], device)
            self._is_copied_N[missing_N] = True
        return self._copied_NCHW[images if isinstance(images, slice) else to_device(images, device)]


class _Kept(NamedTuple):
    source: Dataset
    device: torch.device
    train: bool
    data: Dataset


_latest: list[_Kept] = []
"""The dataset of this process's latest trial, if any."""


def kept_on(
    device: torch.device,
    data: Dataset,
    *,
    train: bool = True,
    room: Callable[[torch.device], int] = images_room,
) -> Dataset:
    """Return a dataset with its images on the device, as far as they fit: those of the test set, then all others.

    All trials of a process with the same dataset share them; they are released when it opens a trial with another.
    Whole images stay on the machine, and so does everything without a GPU. No bit depends on where images are.

    Args:
        train: whether training images may be on the device.
        room: returns the bytes that images may take there.
    """
    free: float = room(device)
    if not free:
        release()
        return data
    if _latest and (_latest[0].source is not data or _latest[0][1:3] != (device, train)):
        release()
    if not _latest:
        sets = list[ImageSet]()
        for part, wanted in ((data.test, True), (data.train, train)):
            size = _bytes(part.images_NCHW)
            images = _on(device, part.images_NCHW) if wanted and size <= free else None
            free -= 0 if images is None else size
            sets.append(part if images is None else part._replace(images_NCHW=images))
        _latest.append(_Kept(data, device, train, data._replace(test=sets[0], train=sets[1])))
    return _latest[0].data


def release() -> None:
    """Release this process's images on the device, as soon as no trial uses them."""
    _latest.clear()


def _bytes(images: Images) -> float:
    """Return the size of images on a device; infinite if they cannot be there."""
    return math.inf if isinstance(images, WholeImages) else math.prod(images.shape)


def _on(device: torch.device, images: Images) -> DeviceImages | None:
    try:
        return DeviceImages(images, device)
    except torch.OutOfMemoryError as error:
        refusals.caught(error, device)
        return None
