"""Images resized once, to bytes: in memory where they are few, else in a file, once a machine.

PIL resizes, image by image, as the paper's code had it done: the same bytes on every CPU, which torchvision's
resizing of byte tensors does not promise.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from jobs.data.degraded import Degradation, low_pass
from jobs.data.raw import Part
from jobs.errors import Code, StorageFailure
from jobs.home import data_directory
from jobs.machine_cache import MachineCache, StoredArray
from jobs.progress import progressed

LIMIT_VARIABLE = "DELTASWEEP_CACHE_GB"

_DEFAULT_LIMIT_GB = 64
_NOTHING = Degradation()
_IN_MEMORY_BYTES = 4 << 20  # resized again in each process: quicker than to find a file
_TASK_IMAGES = 32
_TASKS_A_CHUNK = 16


class Images(Protocol):
    """Bytes N x C x S x S: a tensor, or what a file holds of one."""

    @property
    def shape(self) -> Sequence[int]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, images: Any, /) -> Tensor:
        """Some of them, by a slice or indices N."""


class StoredImages:
    """Images in a file, each compared with its checksum when it is asked for (``jobs.machine_cache``)."""

    def __init__(self, stored: StoredArray) -> None:
        self._stored = stored

    @property
    def shape(self) -> Sequence[int]:
        return self._stored.shape

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, images: slice | Tensor, /) -> Tensor:
        return torch.from_numpy(self._stored[images.numpy() if isinstance(images, Tensor) else images])


def resized(
    part: Part, image_size: int, key: str, lost: Degradation = _NOTHING, again: Callable[[], Part] | None = None
) -> Images:
    """The images of a part as N x C x S x S: the shorter side resized bilinearly to S, then the centre.

    Few images are in memory. Many are in a file (``jobs.machine_cache``); where it cannot be, they are in
    memory too, with a warning.

    Args:
        key: dataset, digest and part: what the images are.
        lost: what they are to lose on the way.
        again: reads the part once more, should its file be found damaged later; None: it stays in memory.

    Raises:
        DamagedFile: when an image cannot be decoded.
        StorageFailure: when the images fit neither on the disk nor in memory.
    """
    shape = (len(part.labels_N), part.channels, image_size, image_size)
    if math.prod(shape) <= _IN_MEMORY_BYTES:
        return torch.from_numpy(_resize_all(part, range(len(part.labels_N)), image_size, lost))
    try:
        return _stored(part, shape, key, lost, again)
    except OSError as error:
        if math.prod(shape) > _free_memory() / 2:
            raise StorageFailure(
                Code.STORAGE,
                f"the resized images of {key.rsplit('-', 2)[0]} are {math.prod(shape) / 1e9:,.0f} GB, too many to be "
                f"held in memory, and {_directory()} cannot keep them: {error}. Give it the room: ${LIMIT_VARIABLE} "
                "is its limit in GB, $DELTASWEEP_HOME where it lies",
                file=_directory(),
                key=f"${LIMIT_VARIABLE}",
            ) from error
        warnings.warn(f"resized images are held in memory, since {_directory()} cannot be used: {error}", stacklevel=2)
        return torch.from_numpy(np.concatenate(list(_chunks(part, image_size, lost))))


def _free_memory() -> int:
    """Bytes of memory that this machine could give now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _resize_all(part: Part, indices: range, size: int, lost: Degradation = _NOTHING) -> npt.NDArray[np.uint8]:
    images_NCHW = np.empty((len(indices), part.channels, size, size), np.uint8)
    for image_CHW, index in zip(images_NCHW, indices, strict=True):
        progressed()
        image_CHW[:] = _pixels(part.image(index), size, lost)
    return images_NCHW


def _pixels(image: Image.Image, size: int, lost: Degradation) -> npt.NDArray[np.uint8]:
    """One image as C x S x S."""
    if lost.low_resolution is not None:
        image = resize(image, lost.low_resolution)
    pixels = np.asarray(resize(image, size))
    pixels_CHW = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return pixels_CHW if lost.low_pass is None else low_pass(pixels_CHW, lost.low_pass)


def resize(image: Image.Image, size: int) -> Image.Image:
    """The shorter side to ``size``, then the centre."""
    if image.width == image.height:
        return image.resize((size, size), Image.Resampling.BILINEAR)
    return transforms.center_crop(transforms.resize(image, [size]), [size, size])  # type: ignore[no-any-return]


def _chunks(part: Part, size: int, lost: Degradation) -> Iterator[npt.NDArray[np.uint8]]:
    """All images in order, some at a time; PIL works without Python's lock."""
    total = len(part.labels_N)
    tasks = [range(start, min(start + _TASK_IMAGES, total)) for start in range(0, total, _TASK_IMAGES)]
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(tasks), _TASKS_A_CHUNK):
            chunk = tasks[first : first + _TASKS_A_CHUNK]
            yield np.concatenate(list(pool.map(lambda indices: _resize_all(part, indices, size, lost), chunk)))


def _stored(
    part: Part, shape: tuple[int, ...], key: str, lost: Degradation, again: Callable[[], Part] | None
) -> StoredImages:
    size = shape[-1]
    first = [part]

    def chunks() -> Iterator[npt.NDArray[np.uint8]]:
        return _chunks(first[0] if first or again is None else again(), size, lost)

    # another Pillow may round, or decode, otherwise
    name = f"{key}-{size}px-pillow{PIL.__version__}"
    cache = MachineCache(_directory(), LIMIT_VARIABLE, _DEFAULT_LIMIT_GB)
    stored = StoredImages(cache.array(name, shape, np.uint8, chunks))
    if again is not None:
        first.clear()  # the images before resizing are not held for as long as these are
    return stored


def _directory() -> Path:
    return data_directory() / ".resized"
