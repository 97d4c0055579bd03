"""A dataset's images before resizing, in memory or still in their files, and their digest."""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from jobs.data.normalization_forms import Form
from jobs.errors import Code, DamagedFile, DeltaSweepError, StorageFailure, reading_failure
from jobs.system.file_kinds import what_it_is
from jobs.system.files import open_file
from jobs.system.progress import progressed

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""Formats that are decoded, identified by content. Pillow supports more, one of them by running another program."""

MOST_ASPECT = 64
"""The largest aspect ratio of images that are enlarged whole: 9.6 MB at 224 pixels, whereas an image of 1 x 20,000
pixels would take 3 GB. Whole images (``jobs.data.whole_image``) may not be longer; of others, only the centre square is
enlarged.
"""

_REPLACE = "replace it with the original file"
_DEEP_MODES = ("I", "F")  # 16 and 32 bits per channel; PIL would clip them to 8


_ORIENTATION = 274  # the orientation tag in EXIF and TIFF
_Turn = Image.Transpose
_TURNS = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
"""The transposition that makes an image upright, by EXIF orientation; 1 is upright, other values are undefined."""
_ACROSS = (_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90)


class LabelledImages(Protocol):
    """Images before resizing, one at a time, and their labels N."""

    @property
    def labels_N(self) -> npt.NDArray[np.int64]: ...  # noqa: N802  # a field in the implementations
    @property
    def channels(self) -> int: ...
    def image(self, index: int) -> Image.Image: ...
    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of an image, in pixels."""


class RawPart(NamedTuple):
    """Images N x H x W x C and labels N, as read from their files."""

    images_NHWC: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]

    @property
    def channels(self) -> int:
        return int(self.images_NHWC.shape[-1])

    def image(self, index: int) -> Image.Image:
        """Return one image, grey or RGB."""
        image_HWC = self.images_NHWC[index]
        return Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)

    def size(self, index: int) -> tuple[int, int]:
        _, height, width, _ = self.images_NHWC.shape
        return width, height


class FolderPart(NamedTuple):
    """Images of any size, decoded on access, and labels N."""

    paths: tuple[Path, ...]
    labels_N: npt.NDArray[np.int64]
    colour: bool
    upright: bool = False
    """Whether the EXIF orientation of images is applied."""

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1

    def image(self, index: int) -> Image.Image:
        """Return one image, converted to grey or RGB; the alpha channel is dropped.

        Raises:
            DamagedFile: if the file is not an image, is truncated, is too large (Pillow's limit), or is grey with more
                than 8 bits.
        """
        with opened(self.paths[index]) as image:
            converted = image.convert("RGB" if self.colour else "L")
            turn = turn_of(image) if self.upright else None
            return converted if turn is None else converted.transpose(turn)

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of an image, for most formats without decoding it.

        Raises:
            DamagedFile: see ``image``.
        """
        with opened(self.paths[index]) as image:
            if turned_by_pillow(image):
                image.load()
            turned = self.upright and turn_of(image) in _ACROSS
            return image.size[::-1] if turned else image.size


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file in one of ``FORMATS``; decoding errors inside the block become ``DamagedFile`` too.

    Raises:
        DamagedFile: see ``FolderPart.image``; or if the file may not be read.
        StorageFailure: if there is too little memory to decode the image, or the disk fails.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise DamagedFile(
                    Code.DAMAGED_DATA,
                    f"expected at most 8 bits per channel; {path} has more (mode {image.mode}). Fix: convert it",
                    file=path,
                )
            yield image
    except DeltaSweepError:
        raise
    except Exception as error:  # decoders can raise any exception for damaged files
        reason, fix = _why_not(path) if isinstance(error, UnidentifiedImageError) else (str(error), _REPLACE)
        damaged = DamagedFile(Code.DAMAGED_DATA, f"{path} cannot be read as an image ({reason}). Fix: {fix}", file=path)
        raise reading_failure(error, path, damaged) from error


def _why_not(path: Path) -> tuple[str, str]:
    """Return why a file is not identified as an image, and the fix."""
    if (known := what_it_is(path)) is None:
        return f"it is in none of the formats {', '.join(FORMATS)}", f"convert it to PNG or JPEG, or {_REPLACE}"
    what, _, fix = known.partition("; ")
    return f"it is {what}", fix or _REPLACE


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition for an open image's EXIF orientation; None if there is none, or it is invalid.

    Pillow applies the orientation of TIFF images itself while decoding, after which none is left. In PNG, the
    orientation may be stored after the pixels.
    """
    if image.format in ("TIFF", "PNG"):
        image.load()
    return _turn(image)


def turned_by_pillow(image: Image.Image) -> bool:
    """Return whether Pillow will turn an open image when it decodes it, whatever the card says: TIFF only."""
    return image.format == "TIFF" and _turn(image) is not None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # damaged EXIF can raise any exception, and is ignored
        return None


def unreadable(path: Path, error: OSError) -> DamagedFile | StorageFailure:
    """Return the error for a file or folder of a dataset that cannot be opened, listed or read."""
    damaged = DamagedFile(
        Code.DAMAGED_DATA, f"{path} cannot be read ({error}). Fix: replace it with the original file", file=path
    )
    return reading_failure(error, path, damaged)


class Raw(NamedTuple):
    """Both parts of a dataset, and its digest."""

    train: RawPart | FolderPart
    test: RawPart | FolderPart
    sha256: str
    names: tuple[str, ...] = ()
    """Label names in the order of label numbers; empty if the files contain only numbers."""
    textures_N: npt.NDArray[np.int64] | None = None
    """Texture labels of cue-conflict test images; ``test`` contains their shape labels."""


def in_memory(train: RawPart, test: RawPart) -> Raw:
    return Raw(train, test, content_digest(train, test))


def content_digest(*parts: RawPart) -> str:
    """Return the sha256 of shapes, image bytes and labels, which does not depend on how files are packed."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(repr(part.images_NHWC.shape).encode())
        hasher.update(np.ascontiguousarray(part.images_NHWC).data)
        hasher.update(part.labels_N.astype("<i8").tobytes())
    return hasher.hexdigest()


def files_digest(folder: Path, parts: Sequence[FolderPart], form: Form | None = None) -> str:
    """Return the sha256 of each file's part, relative path and bytes, which does not depend on image decoders.

    Args:
        form: as if the names of labels and files were in this Unicode normalization form; None: as they are.

    Raises:
        DamagedFile: if a file is missing, may not be read, or is not a regular file.
        StorageFailure: if the disk fails.
    """
    hasher = hashlib.sha256()
    for number, part in enumerate(parts):
        named: Iterable[tuple[str, Path]] = ((path.relative_to(folder).as_posix(), path) for path in part.paths)
        if form is not None:
            renamed = [(unicodedata.normalize(form, name), path) for name, path in named]
            named = sorted(renamed, key=lambda one: one[0].split("/"))  # as folders are listed
        for name, path in named:
            progressed()
            try:
                with open_file(path) as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise unreadable(path, error) from error
            hasher.update(f"{number} {content} {name}\n".encode())
    return hasher.hexdigest()
