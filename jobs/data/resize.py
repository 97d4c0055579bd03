"""Images resized to uint8: kept in memory if they are few, otherwise cached in a file, once per machine.

Images are resized one by one with PIL, as in the paper's code. This gives the same bytes on every CPU, which
torchvision's resizing of uint8 tensors does not guarantee.
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

from jobs.data.array_cache import MachineCache, StoredArray
from jobs.data.low_pass import Degradation, low_pass
from jobs.data.raw import MOST_ASPECT, FolderPart, LabelledImages
from jobs.errors import Code, DamagedFile, DeltaSweepError, StorageFailure
from jobs.paths import data_directory
from jobs.system.memory import machine_memory
from jobs.system.progress import progressed

LIMIT_VARIABLE = "DELTASWEEP_CACHE_GB"

_DEFAULT_LIMIT_GB = 64
_NOTHING = Degradation()
_IN_MEMORY_BYTES = 4 << 20  # up to this size, resizing again in each process is faster than using a file
_AT_ONCE = 1 << 22  # pixels of one image that are enlarged together
_TASK_IMAGES = 32
_TASKS_A_CHUNK = 16


Bytes = npt.NDArray[np.uint8]
Chunks = Callable[[LabelledImages], Iterable[Bytes]]
"""Computes the cached data of a part and yields its pieces along the first axis, in order."""


class Images(Protocol):
    """uint8 images N x C x S x S: a tensor, or crops of images stored in a file (``jobs.data.whole_image``)."""

    @property
    def shape(self) -> Sequence[int]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, images: Any, /) -> Tensor:
        """Return some of the images, selected by a slice or by indices N."""


class StoredImages:
    """Images in a file, each verified against its checksum on access (``jobs.data.array_cache``)."""

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
    part: LabelledImages,
    image_size: int,
    key: str,
    lost: Degradation = _NOTHING,
    again: Callable[[], LabelledImages] | None = None,
) -> Images:
    """Return the images of a part as N x C x S x S: the shorter side resized bilinearly to S, then the centre square.

    A small number of images is kept in memory; more are cached in a file (``jobs.data.array_cache``). If the file
    cannot be written, the images are kept in memory with a warning.

    Args:
        key: identifies the images: dataset, digest and part.
        lost: how images are degraded.
        again: reads the part again, if the cache file is found damaged later; None: the part stays in memory.

    Raises:
        DamagedFile: if an image cannot be decoded, or is too long to be filtered whole.
        StorageFailure: if the disk fails while an image is read, or the images fit neither on the disk nor in memory.
    """
    shape = (len(part.labels_N), part.channels, image_size, image_size)

    def chunks(part: LabelledImages) -> Iterator[Bytes]:
        return in_parts(part, lambda indices: _resize_all(part, indices, image_size, lost))

    found = kept(part, shape, f"{key}-{image_size}px", chunks, again)
    return torch.from_numpy(found) if isinstance(found, np.ndarray) else StoredImages(found)


def kept(
    part: LabelledImages, shape: tuple[int, ...], name: str, chunks: Chunks, again: Callable[[], LabelledImages] | None
) -> Bytes | StoredArray:
    """Return data that is computed once from a part: in memory if it is small, otherwise in a file (see ``resized``).

    Args:
        shape: the shape of the whole array.
        name: identifies the data: the part's key (see ``resized``), the size, and everything else that determines it.

    Raises:
        DamagedFile, StorageFailure: see ``resized``.
    """
    if math.prod(shape) <= _IN_MEMORY_BYTES:
        return _in_memory(shape, chunks(part))
    try:
        return _stored(part, shape, name, chunks, again)
    except DeltaSweepError:  # of the original images
        raise
    except OSError as error:
        if math.prod(shape) > machine_memory().free / 2:
            raise StorageFailure(
                Code.STORAGE,
                f"the resized images of {name.rsplit('-', 3)[0]} take {math.prod(shape) / 1e9:,.0f} GB, too much for "
                f"this machine's memory, and {_directory()} cannot store them: {error}. Fix: raise ${LIMIT_VARIABLE}, "
                "its limit in GB, or set $DELTASWEEP_HOME to a directory on a larger disk",
                file=_directory(),
                key=f"${LIMIT_VARIABLE}",
            ) from error
        warnings.warn(
            f"resized images are kept in memory, because {_directory()} cannot be used: {error}", stacklevel=2
        )
        return _in_memory(shape, chunks(part))


def _in_memory(shape: tuple[int, ...], chunks: Iterable[Bytes]) -> Bytes:
    found, filled = np.empty(shape, np.uint8), 0
    for chunk in chunks:
        found[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return found


def _resize_all(part: LabelledImages, indices: range, size: int, lost: Degradation = _NOTHING) -> Bytes:
    images_NCHW = np.empty((len(indices), part.channels, size, size), np.uint8)
    for image_CHW, index in zip(images_NCHW, indices, strict=True):
        progressed()
        image = part.image(index)
        if lost.low_pass is not None and lost.aspect_kept:
            require_short(part, index, image.size, "for a low pass of the whole image", "`aspect: square`")
        image_CHW[:] = pixels(image, size, lost, resize)
    return images_NCHW


def require_short(part: LabelledImages, index: int, size: tuple[int, int], what_for: str, instead: str) -> None:
    """Refuse an image that is too long to be enlarged whole.

    Args:
        size: its width and height.
        what_for, instead: why it would be enlarged whole, and the choice that does not; for the message.

    Raises:
        DamagedFile: if its longer side exceeds ``MOST_ASPECT`` times the shorter.
    """
    width, height = size
    if max(size) > MOST_ASPECT * min(size):
        file = part.paths[index] if isinstance(part, FolderPart) else ""
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected images whose longer side is at most {MOST_ASPECT} times the shorter, {what_for}; got {width} x "
            f"{height} pixels{f' in {file}' if file else ''}. Fix: crop the image, or use {instead}",
            file=file,
        )


def pixels(image: Image.Image, size: int, lost: Degradation, fit: Callable[[Image.Image, int], Image.Image]) -> Bytes:
    """Return one image as C x H x W, degraded as requested.

    Args:
        fit: the function that resizes it: ``resize`` or ``shorten``.
    """
    if lost.low_resolution is not None:
        image = (shorten if lost.aspect_kept else resize)(image, lost.low_resolution)
    if lost.low_pass is None:
        return _channels_first(fit(image, size))
    if lost.aspect_kept and fit is resize:
        return _centre(low_pass(_channels_first(shorten(image, size)), lost.low_pass), size)
    return low_pass(_channels_first(fit(image, size)), lost.low_pass)


def _channels_first(image: Image.Image) -> Bytes:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _centre(pixels_CHW: Bytes, size: int) -> Bytes:
    """Return the centre square, as torchvision crops it."""
    top, left = (round((side - size) / 2) for side in pixels_CHW.shape[1:])
    return pixels_CHW[:, top : top + size, left : left + size]


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size``, then crop the centre square."""
    if min(image.size) < size and max(image.size) > MOST_ASPECT * min(image.size):
        return _centre_of_line(image, size)
    shortened = shorten(image, size)
    if shortened.width == shortened.height:
        return shortened
    return transforms.center_crop(shortened, [size, size])  # type: ignore[no-any-return]


def _centre_of_line(image: Image.Image, size: int) -> Image.Image:
    """Enlarge like ``resize``, but only what is in the centre square: a line of pixels would become gigabytes.

    PIL enlarges rows, rounds, and enlarges columns. So the rows of a wide image are cropped between the two, and the
    columns of a tall one are enlarged a few at a time.
    """
    length = longer(size, min(image.size), max(image.size))
    start = round((length - size) / 2)  # as torchvision crops
    if image.width > image.height:
        rows = image.resize((length, image.height), Image.Resampling.BILINEAR)
        return rows.crop((start, 0, start + size, image.height)).resize((size, size), Image.Resampling.BILINEAR)
    columns = image.resize((size, image.height), Image.Resampling.BILINEAR)
    square = Image.new(image.mode, (size, size))
    step = max(1, _AT_ONCE // length)
    for left in range(0, size, step):
        right = min(left + step, size)
        strip = columns.crop((left, 0, right, image.height)).resize((right - left, length), Image.Resampling.BILINEAR)
        square.paste(strip.crop((0, start, right - left, start + size)), (left, 0))
    return square


def longer(size: int, short: int, long: int) -> int:
    """Return the longer side after resizing the shorter side to ``size``, rounded like torchvision."""
    return int(size * long / short)


def shorten(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` bilinearly, keeping the aspect ratio."""
    if image.width == image.height:
        return image.resize((size, size), Image.Resampling.BILINEAR)
    return transforms.resize(image, [size])  # type: ignore[no-any-return]


def in_parts(part: LabelledImages, make: Callable[[range], Bytes]) -> Iterator[Bytes]:
    """Process all images in chunks, in order, with several threads; PIL releases the GIL."""
    total = len(part.labels_N)
    tasks = [range(start, min(start + _TASK_IMAGES, total)) for start in range(0, total, _TASK_IMAGES)]
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(tasks), _TASKS_A_CHUNK):
            chunk = tasks[first : first + _TASKS_A_CHUNK]
            yield np.concatenate(list(pool.map(make, chunk)))


def _stored(
    part: LabelledImages, shape: tuple[int, ...], name: str, chunks: Chunks, again: Callable[[], LabelledImages] | None
) -> StoredArray:
    first = [part]
    cache = MachineCache(_directory(), LIMIT_VARIABLE, _DEFAULT_LIMIT_GB)
    # another version of Pillow may round or decode differently
    stored = cache.array(
        f"{name}-pillow{PIL.__version__}",
        shape,
        np.uint8,
        lambda: chunks(first[0] if first or again is None else again()),
    )
    if again is not None:
        first.clear()  # release the original images
    return stored


def _directory() -> Path:
    return data_directory() / ".resized"
