"""Images resized once, to bytes: in memory where they are few, else memory-mapped from a file, once a machine.

PIL resizes, image by image, as the paper's code had it done: the same bytes on every CPU, which torchvision's
resizing of byte tensors does not promise.
"""

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from filelock import FileLock
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from jobs.data.raw import FolderPart, RawPart
from jobs.errors import InvalidRequest, StorageFailure
from jobs.home import data_directory

LIMIT_VARIABLE = "DELTASWEEP_CACHE_GB"

_DEFAULT_LIMIT_GB = 64
_IN_MEMORY_BYTES = 4 << 20  # resized again in each process: quicker than to find a file
_TASK_IMAGES = 32
_TASKS_A_CHUNK = 16


def resized(part: RawPart | FolderPart, image_size: int, key: str) -> npt.NDArray[np.uint8]:
    """The images of a part as N x C x S x S: the shorter side resized bilinearly to S, then the centre.

    Few images are in memory. Many are a private mapping of a file that one process on this machine writes
    while the others wait; it is put in its place when it is whole. Where it cannot be, they are in memory
    too, with a warning.

    Args:
        key: dataset, digest and part: what the images are.

    Raises:
        DamagedFile: when an image cannot be decoded.
        StorageFailure: when the images fit neither on the disk nor in memory.
    """
    shape = (len(part.labels_N), part.channels, image_size, image_size)
    if math.prod(shape) <= _IN_MEMORY_BYTES:
        return _resize_all(part, range(len(part.labels_N)), image_size)
    try:
        return _mapped(part, shape, key)
    except OSError as error:
        if math.prod(shape) > _free_memory() / 2:
            raise StorageFailure(
                f"the resized images of {key.rsplit('-', 2)[0]} are {math.prod(shape) / 1e9:,.0f} GB, too many to be "
                f"held in memory, and {_directory()} cannot keep them: {error}. Give it the room: ${LIMIT_VARIABLE} "
                "is its limit in GB, $DELTASWEEP_HOME where it lies"
            ) from error
        warnings.warn(f"resized images are held in memory, since {_directory()} cannot be used: {error}", stacklevel=2)
        return np.concatenate(list(_chunks(part, image_size)))


def _free_memory() -> int:
    """Bytes of memory that this machine could give now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _resize_all(part: RawPart | FolderPart, indices: range, size: int) -> npt.NDArray[np.uint8]:
    images_NCHW = np.empty((len(indices), part.channels, size, size), np.uint8)
    for image_CHW, index in zip(images_NCHW, indices, strict=True):
        image_CHW[:] = _resize(part.image(index), size)
    return images_NCHW


def _resize(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """One image as C x S x S."""
    if image.width == image.height:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    else:
        image = transforms.center_crop(transforms.resize(image, [size]), [size, size])
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _chunks(part: RawPart | FolderPart, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """All images in order, some at a time; PIL works without Python's lock."""
    total = len(part.labels_N)
    tasks = [range(start, min(start + _TASK_IMAGES, total)) for start in range(0, total, _TASK_IMAGES)]
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(tasks), _TASKS_A_CHUNK):
            chunk = tasks[first : first + _TASKS_A_CHUNK]
            yield np.concatenate(list(pool.map(lambda indices: _resize_all(part, indices, size), chunk)))


def _mapped(part: RawPart | FolderPart, shape: tuple[int, ...], key: str) -> npt.NDArray[np.uint8]:
    """Map the file of a key, writing it first if it is not there or not whole."""
    directory = _directory()
    # another Pillow may round, or decode, otherwise
    path = directory / f"{key}-{shape[-1]}px-pillow{PIL.__version__}.npy"
    if not _whole(path, shape):
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".npy.lock")):
            if not _whole(path, shape):
                _make_room(directory, math.prod(shape))
                _write(path, shape, _chunks(part, shape[-1]))
    with suppress(PermissionError):  # a home that is shared and cannot be written
        os.utime(path)  # the one not used for longest goes first
    # copy-on-write: torch warns of read-only arrays, and nothing that is done to a tensor may reach the file
    return np.asarray(np.load(path, mmap_mode="c"))


def _whole(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _write(path: Path, shape: tuple[int, ...], chunks: Iterator[npt.NDArray[np.uint8]]) -> None:
    """Write an array chunk by chunk: a full disk is then an error, where a mapping would kill the process."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk).data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _make_room(directory: Path, needed: int) -> None:
    """Remove the files not used for longest until ``needed`` bytes fit into the limit and on the disk.

    Raises:
        OSError: when they would not fit even then; nothing is removed.
    """
    limit = _limit()
    files = sorted(directory.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    used = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(directory).free
    if needed > limit:
        raise OSError(f"{needed:,} bytes are more than its limit, ${LIMIT_VARIABLE} ({limit / 1e9:g} GB)")
    if needed > free + used:
        raise OSError(f"{needed:,} bytes are needed and {free:,} free")
    for path in files:
        if used + needed <= limit and needed <= free:
            return
        used, free = used - path.stat().st_size, free + path.stat().st_size
        path.unlink()


def _limit() -> float:
    text = os.environ.get(LIMIT_VARIABLE, str(_DEFAULT_LIMIT_GB))
    try:
        return float(text) * 1e9
    except ValueError as error:
        raise InvalidRequest(f"${LIMIT_VARIABLE} is a number of gigabytes; it is {text!r}") from error


def _directory() -> Path:
    return data_directory() / ".resized"
