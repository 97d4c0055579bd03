"""A dataset's images before resizing, in memory or still in their files, and the digest of what they are."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from jobs.errors import Code, DamagedFile, DeltaSweepError, StorageFailure
from jobs.file_kinds import what_it_is
from jobs.files import open_file
from jobs.progress import progressed

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""What is decoded, by content. Pillow knows more; one of them it hands to another program."""

MOST_ASPECT = 64
"""Of whole images the longer side is at most so many times the shorter (``jobs.data.whole``): 9.6 MB at 224 pixels,
where one row of 20,000 would be 3 GB.
"""

_DEEP_MODES = ("I", "F")  # 16 and 32 bits a channel; PIL would clip them to eight


_ORIENTATION = 274  # the tag, of EXIF as of TIFF
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
"""What makes an image upright, by its orientation; 1 is upright, and other values mean nothing."""
_ACROSS = (_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90)


class Part(Protocol):
    """Images before resizing, one at a time, and their labels N."""

    @property
    def labels_N(self) -> npt.NDArray[np.int64]: ...  # noqa: N802  # a field of those that are parts
    @property
    def channels(self) -> int: ...
    def image(self, index: int) -> Image.Image: ...
    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image, in pixels."""


class RawPart(NamedTuple):
    """Images N x H x W x C and labels N as they come from their files."""

    images_NHWC: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]

    @property
    def channels(self) -> int:
        return int(self.images_NHWC.shape[-1])

    def image(self, index: int) -> Image.Image:
        """One image, grey or RGB."""
        image_HWC = self.images_NHWC[index]
        return Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)

    def size(self, index: int) -> tuple[int, int]:
        _, height, width, _ = self.images_NHWC.shape
        return width, height


class FolderPart(NamedTuple):
    """Images of any sizes, decoded when they are asked for, and labels N."""

    paths: tuple[Path, ...]
    labels_N: npt.NDArray[np.int64]
    colour: bool
    upright: bool = False
    """Whether they are turned and mirrored as their EXIF asks."""

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1

    def image(self, index: int) -> Image.Image:
        """One image, grey or RGB whatever its file is; the alpha channel is dropped.

        Raises:
            DamagedFile: when the file is no image, is cut off, is too large (Pillow's bound), or is grey of more than
                eight bits.
        """
        with opened(self.paths[index]) as image:
            converted = image.convert("RGB" if self.colour else "L")
            turn = turn_of(image) if self.upright else None
            return converted if turn is None else converted.transpose(turn)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image; of most formats without decoding it. Raises DamagedFile as ``image``."""
        with opened(self.paths[index]) as image:
            turned = self.upright and turn_of(image) in _ACROSS
            return image.size[::-1] if turned else image.size


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file of one of ``FORMATS``; what decoding raises inside the block is explained, too.

    Raises:
        DamagedFile: as ``FolderPart.image``.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise DamagedFile(
                    Code.DAMAGED_DATA,
                    f"{path} has more than 8 bits a channel (mode {image.mode}); convert it",
                    file=path,
                )
            yield image
    except DeltaSweepError:
        raise
    except MemoryError as error:
        raise StorageFailure(
            Code.STORAGE, f"{path} needs more memory to be decoded than this machine has left", file=path
        ) from error
    except Exception as error:  # decoders of torn files raise whatever they stumble over
        known = what_it_is(path)
        reason = f"it is {known}" if isinstance(error, UnidentifiedImageError) and known else error
        raise DamagedFile(
            Code.DAMAGED_DATA, f"{path} cannot be read as an image ({reason}); put the original file there", file=path
        ) from error


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What an open image's EXIF orientation asks for; None: nothing, or it makes no sense.

    Pillow turns TIFF by itself when it decodes it, so that nothing is left to do then. In PNG, what says it may stand
    behind the pixels.
    """
    if image.format in ("TIFF", "PNG"):
        image.load()
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # decoders of torn EXIF raise whatever they stumble over, and it says nothing
        return None


def unreadable(path: Path, error: OSError) -> DamagedFile:
    """For a file or folder of a dataset that the system refuses to read."""
    return DamagedFile(
        Code.DAMAGED_DATA,
        f"{path} cannot be read ({error.strerror or error}); make it readable, or remove it",
        file=path,
    )


class Raw(NamedTuple):
    """Both parts of a dataset, and the digest of what they are."""

    train: RawPart | FolderPart
    test: RawPart | FolderPart
    sha256: str
    names: tuple[str, ...] = ()
    """Of the labels, in the order of their numbers; none where the files have numbers alone."""
    textures_N: npt.NDArray[np.int64] | None = None
    """Of test images whose cues conflict: the label of the texture, where ``test`` has that of the shape."""


def in_memory(train: RawPart, test: RawPart) -> Raw:
    return Raw(train, test, content_digest(train, test))


def content_digest(*parts: RawPart) -> str:
    """The sha256 of shapes, image bytes and labels: what the images are, however they were packed."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(repr(part.images_NHWC.shape).encode())
        hasher.update(np.ascontiguousarray(part.images_NHWC).data)
        hasher.update(part.labels_N.astype("<i8").tobytes())
    return hasher.hexdigest()


def files_digest(folder: Path, parts: Sequence[FolderPart]) -> str:
    """The sha256 of every file's part, path below the folder, and bytes: decoders differ, files do not."""
    hasher = hashlib.sha256()
    for number, part in enumerate(parts):
        for path in part.paths:
            progressed()
            try:
                with open_file(path) as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise unreadable(path, error) from error
            hasher.update(f"{number} {content} {path.relative_to(folder).as_posix()}\n".encode())
    return hasher.hexdigest()
