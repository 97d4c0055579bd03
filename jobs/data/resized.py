"""Images resized once, to bytes: in memory where they are few, else in a file, once a machine.

PIL resizes, image by image, as the paper's code had it done: the same bytes on every CPU, which torchvision's
resizing of byte tensors does not promise.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from jobs.memory import machine_memory
from jobs.progress import progressed

LIMIT_VARIABLE = "DELTASWEEP_CACHE_GB"

_DEFAULT_LIMIT_GB = 64
_NOTHING = Degradation()
_IN_MEMORY_BYTES = 4 << 20  # resized again in each process: quicker than to find a file
_TASK_IMAGES = 32
_TASKS_A_CHUNK = 16


Bytes = npt.NDArray[np.uint8]
Chunks = Callable[[Part], Iterable[Bytes]]
"""Makes what is kept of a part: its pieces along the first axis, in order."""


class Images(Protocol):
    """Bytes N x C x S x S: a tensor, or what a file holds of one, or of larger ones (``jobs.data.whole``)."""

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

    def chunks(part: Part) -> Iterator[Bytes]:
        return in_parts(part, lambda indices: _resize_all(part, indices, image_size, lost))

    found = kept(part, shape, f"{key}-{image_size}px", chunks, again)
    return torch.from_numpy(found) if isinstance(found, np.ndarray) else StoredImages(found)


def kept(
    part: Part, shape: tuple[int, ...], name: str, chunks: Chunks, again: Callable[[], Part] | None
) -> Bytes | StoredArray:
    """Bytes that are made of a part once: in memory where they are few, else in a file (``resized``).

    Args:
        shape: of all of them.
        name: what they are: key of the part (``resized``), size, and whatever else decides about them.

    Raises:
        DamagedFile, StorageFailure: as ``resized``.
    """
    if math.prod(shape) <= _IN_MEMORY_BYTES:
        return _in_memory(shape, chunks(part))
    try:
        return _stored(part, shape, name, chunks, again)
    except OSError as error:
        if math.prod(shape) > machine_memory().free / 2:
            raise StorageFailure(
                Code.STORAGE,
                f"the resized images of {name.rsplit('-', 3)[0]} are {math.prod(shape) / 1e9:,.0f} GB, too many to be "
                f"held in memory, and {_directory()} cannot keep them: {error}. Give it the room: ${LIMIT_VARIABLE} "
                "is its limit in GB, $DELTASWEEP_HOME where it lies",
                file=_directory(),
                key=f"${LIMIT_VARIABLE}",
            ) from error
        warnings.warn(f"resized images are held in memory, since {_directory()} cannot be used: {error}", stacklevel=2)
        return _in_memory(shape, chunks(part))


def _in_memory(shape: tuple[int, ...], chunks: Iterable[Bytes]) -> Bytes:
    found, filled = np.empty(shape, np.uint8), 0
    for chunk in chunks:
        found[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return found


def _resize_all(part: Part, indices: range, size: int, lost: Degradation = _NOTHING) -> Bytes:
    images_NCHW = np.empty((len(indices), part.channels, size, size), np.uint8)
    for image_CHW, index in zip(images_NCHW, indices, strict=True):
        progressed()
        image_CHW[:] = pixels(part.image(index), size, lost, resize)
    return images_NCHW


def pixels(image: Image.Image, size: int, lost: Degradation, fit: Callable[[Image.Image, int], Image.Image]) -> Bytes:
    """One image as C x H x W, once it has lost what it is to lose.

    Args:
        fit: how it comes to the size: ``resize`` or ``shorten``.
    """
    if lost.low_resolution is not None:
        image = (shorten if lost.aspect_kept else resize)(image, lost.low_resolution)
    pixels = np.asarray(fit(image, size))
    pixels_CHW = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return pixels_CHW if lost.low_pass is None else low_pass(pixels_CHW, lost.low_pass)


def resize(image: Image.Image, size: int) -> Image.Image:
    """The shorter side to ``size``, then the centre."""
    shortened = shorten(image, size)
    if shortened.width == shortened.height:
        return shortened
    return transforms.center_crop(shortened, [size, size])  # type: ignore[no-any-return]


def shorten(image: Image.Image, size: int) -> Image.Image:
    """The shorter side to ``size``, bilinearly; the aspect stays."""
    if image.width == image.height:
        return image.resize((size, size), Image.Resampling.BILINEAR)
    return transforms.resize(image, [size])  # type: ignore[no-any-return]


def in_parts(part: Part, make: Callable[[range], Bytes]) -> Iterator[Bytes]:
    """What is made of all images in order, of some at a time; PIL works without Python's lock."""
    total = len(part.labels_N)
    tasks = [range(start, min(start + _TASK_IMAGES, total)) for start in range(0, total, _TASK_IMAGES)]
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(tasks), _TASKS_A_CHUNK):
            chunk = tasks[first : first + _TASKS_A_CHUNK]
            yield np.concatenate(list(pool.map(make, chunk)))


def _stored(
    part: Part, shape: tuple[int, ...], name: str, chunks: Chunks, again: Callable[[], Part] | None
) -> StoredArray:
    first = [part]
    cache = MachineCache(_directory(), LIMIT_VARIABLE, _DEFAULT_LIMIT_GB)
    # another Pillow may round, or decode, otherwise
    stored = cache.array(
        f"{name}-pillow{PIL.__version__}",
        shape,
        np.uint8,
        lambda: chunks(first[0] if first or again is None else again()),
    )
    if again is not None:
        first.clear()  # the images before resizing are not held for as long as these are
    return stored


def _directory() -> Path:
    return data_directory() / ".resized"
