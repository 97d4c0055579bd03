"""Images of a dataset that stay on the GPU, where they fit: each is copied there once, not for every batch.

Shape suffixes: N images of the set, M images that stay, A images added to these, B images of a batch, C channels,
H height, W width.
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
    """uint8 images N x C x H x W on a device. Those that are used first stay there, up to a number of images."""

    def __init__(self, images: Images, device: torch.device, most: int) -> None:
        """
        Args:
            most: number of images that may stay on the device.

        Raises:
            torch.OutOfMemoryError: if the device has no room for them.
        """
        self.shape = tuple(images.shape)
        self._images = images
        self._kept_MCHW = torch.empty((most, *self.shape[1:]), dtype=torch.uint8, device=device)
        self._place_N = torch.full((len(images),), -1)
        """Positions among the kept images; -1: not kept."""
        self._count = 0

    @property
    def bytes(self) -> int:
        """Bytes that they take on the device."""
        return self._kept_MCHW.numel()

    def __len__(self) -> int:
        return len(self._place_N)

    def __getitem__(self, images: slice | Tensor, /) -> Tensor:
        """Return copies of some of the images, on the device."""
        device, chosen_B = self._kept_MCHW.device, torch.arange(len(self))[images]
        self._keep(chosen_B)
        place_B = self._place_N[chosen_B]
        kept_B, others_B = (which_B.nonzero().flatten() for which_B in (place_B >= 0, place_B < 0))
        if not len(others_B):
            return self._kept_MCHW[to_device(place_B, device)]
        found_BCHW = torch.empty((len(chosen_B), *self.shape[1:]), dtype=torch.uint8, device=device)
        found_BCHW[to_device(kept_B, device)] = self._kept_MCHW[to_device(place_B[kept_B], device)]
        found_BCHW[to_device(others_B, device)] = to_device(self._images[chosen_B[others_B]], device)
        return found_BCHW

    def _keep(self, chosen_B: Tensor) -> None:
        """Keep chosen images that are not kept yet, as long as there is room."""
        new_N = torch.zeros(len(self), dtype=torch.bool)
        new_N[chosen_B] = True
        added_A = (new_N & (self._place_N < 0)).nonzero().flatten()[: len(self._kept_MCHW) - self._count]
        if len(added_A):
            places = slice(self._count, self._count + len(added_A))
            self._kept_MCHW[places] = to_device(self._images[added_A], self._kept_MCHW.device)
            self._place_N[added_A] = torch.arange(places.start, places.stop)
            self._count = places.stop


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
    """Return a dataset whose images stay on the device, as far as they fit: those of the test set have priority.

    All trials of a process with the same dataset share them; they are released when it opens a trial with another.
    Whole images stay on the machine, and so does everything without a GPU. No bit depends on where images are.

    Args:
        train: whether training images may be on the device.
        room: returns the bytes that images may take there.
    """
    free = room(device)
    if not free:
        release()
        return data
    if _latest and (_latest[0].source is not data or _latest[0][1:3] != (device, train)):
        release()
    if not _latest:
        sets = list[ImageSet]()
        for part, wanted in ((data.test, True), (data.train, train)):
            placed = _placed(part, device, free) if wanted else part
            if isinstance(placed.images_NCHW, DeviceImages):
                free -= placed.images_NCHW.bytes
            sets.append(placed)
        _latest.append(_Kept(data, device, train, data._replace(test=sets[0], train=sets[1])))
    return _latest[0].data


def release() -> None:
    """Release this process's images on the device, as soon as no trial uses them."""
    _latest.clear()


def _placed(part: ImageSet, device: torch.device, free: int) -> ImageSet:
    """Return a part with as many images on the device as fit into the free bytes, if any do."""
    images = part.images_NCHW
    if isinstance(images, WholeImages):
        return part
    most = min(len(images), free // math.prod(images.shape[1:]))
    if not most:
        return part
    try:
        return part._replace(images_NCHW=DeviceImages(images, device, most))
    except torch.OutOfMemoryError as error:
        refusals.caught(error, device)
        return part
