"""Images of any aspect ratio, resized once by their shorter side to uint8, and crops anywhere along the longer side.

An image is stored as consecutive lines perpendicular to its longer side (columns of a wide image, rows of a tall one),
with several lines in each row of the file. A crop is a range of adjacent lines, and the space that an image takes is
proportional to its length.

Shape suffixes: N images, C channels, L lines of one image, S pixels per line (the shorter side), H height, W width.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jobs.data.array_cache import StoredArray
from jobs.data.low_pass import Degradation
from jobs.data.raw import FolderPart, LabelledImages
from jobs.data.resize import Bytes, in_parts, kept, longer, pixels, require_short, shorten
from jobs.errors import Code, DamagedFile
from jobs.system.progress import progressed

_LINES = 32
"""Lines per row of the file; each row has a checksum."""


class Sizes(NamedTuple):
    """Sizes of images after resizing."""

    lines_N: npt.NDArray[np.int64]
    """The longer side in pixels."""
    wide_N: npt.NDArray[np.bool_]
    """Whether the longer side is the width."""


class WholeImages:
    """The resized images of a part, including the pixels outside their centre squares.

    Indexed as ``Images``, they are the centre squares, N x C x S x S.
    """

    def __init__(self, stored: Bytes | StoredArray, sizes: Sizes) -> None:
        """Wrap the stored rows of resized images.

        Args:
            stored: the rows of all images, ``_LINES`` lines each, R x 32 x C x S; an image's last row is padded.
            sizes: the sizes of the resized images.
        """
        self._stored = stored
        self._sizes = sizes
        self._first_row_N = np.concatenate([[0], np.cumsum(_rows(sizes.lines_N))])

    @property
    def shape(self) -> tuple[int, ...]:
        channels, size = self._stored.shape[2:]
        return len(self), channels, size, size

    def __len__(self) -> int:
        return len(self._sizes.lines_N)

    def __getitem__(self, images: slice | Tensor, /) -> Tensor:
        chosen_N = np.arange(len(self))[images.numpy() if isinstance(images, Tensor) else images]
        # rounded like torchvision: halves to even
        starts_N = np.rint(self._beside(chosen_N) / 2).astype(np.int64)
        return self._squares(chosen_N, starts_N, np.zeros_like(starts_N))

    def beside(self, images_N: Tensor) -> Tensor:
        """Return by how many pixels the longer side exceeds the shorter side, N."""
        return torch.from_numpy(self._beside(images_N.numpy()))

    def crops(self, images_N: Tensor, along_N: Tensor, across_N: Tensor) -> Tensor:
        """Return square crops N x C x S x S of the images; pixels outside an image are black.

        Args:
            along_N: start of each crop along the longer side, in pixels; may be negative.
            across_N: start of each crop along the shorter side, in pixels; may be negative.
        """
        return self._squares(images_N.numpy(), along_N.numpy(), across_N.numpy())

    def places(self, images_N: Tensor, rows_and_columns_N2: Tensor) -> tuple[Tensor, Tensor]:
        """Convert rows and columns to positions along the longer and along the shorter side, N each."""
        wide_N = torch.from_numpy(self._sizes.wide_N[images_N.numpy()])
        row_N, column_N = rows_and_columns_N2.unbind(1)
        return torch.where(wide_N, column_N, row_N), torch.where(wide_N, row_N, column_N)

    def _beside(self, images_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        beside_N: npt.NDArray[np.int64] = self._sizes.lines_N[images_N] - self.shape[-1]
        return beside_N

    def _squares(
        self, images_N: npt.NDArray[np.int64], along_N: npt.NDArray[np.int64], across_N: npt.NDArray[np.int64]
    ) -> Tensor:
        _, channels, size, _ = self.shape
        spans = [
            _overlap(start, size, lines)
            for start, lines in zip(along_N.tolist(), self._sizes.lines_N[images_N].tolist(), strict=True)
        ]
        rows = [
            np.arange(first + span.start // _LINES, first - (-span.stop // _LINES))
            for first, (span, _) in zip(self._first_row_N[images_N].tolist(), spans, strict=True)
        ]
        found = self._stored[np.concatenate([*rows, np.arange(0)])].reshape(-1, channels, size)
        squares_NCHW = np.zeros((len(images_N), channels, size, size), np.uint8)
        at = 0
        for square_CHW, wide, (along, to_along), start, its_rows in zip(
            squares_NCHW, self._sizes.wide_N[images_N].tolist(), spans, across_N.tolist(), rows, strict=True
        ):
            across, to_across = _overlap(start, size, size)
            begin = at + along.start % _LINES
            lines_LCS = found[begin : begin + along.stop - along.start, :, across]
            _as_lines(square_CHW, wide)[to_along, :, to_across] = lines_LCS
            at += len(its_rows) * _LINES
        return torch.from_numpy(squares_NCHW)


def whole(
    part: LabelledImages,
    image_size: int,
    key: str,
    lost: Degradation,
    again: Callable[[], LabelledImages] | None = None,
) -> WholeImages:
    """Resize the shorter side of a part's images bilinearly to ``image_size``; images are cached as by ``resized``.

    Args:
        key, lost, again: see ``resized``.

    Raises:
        DamagedFile: if an image cannot be decoded, or its longer side exceeds ``MOST_ASPECT`` times the shorter.
        StorageFailure: if the images fit neither on the disk nor in memory.
    """
    sizes = _sizes(part, image_size, lost)
    rows = int(_rows(sizes.lines_N).sum())

    def chunks(part: LabelledImages) -> Iterator[Bytes]:
        return in_parts(part, lambda indices: _all_lines(part, indices, sizes, image_size, lost))

    shape = (rows, _LINES, part.channels, image_size)
    return WholeImages(kept(part, shape, f"{key}.whole-{image_size}px", chunks, again), sizes)


def _sizes(part: LabelledImages, image_size: int, lost: Degradation) -> Sizes:
    """Compute the sizes of the images that ``pixels`` will return, from the original sizes alone."""
    lines, wide = [], []
    for index in range(len(part.labels_N)):
        progressed()
        width, height = part.size(index)
        require_short(part, index, (width, height), "for crops of the whole image", "`crop: centre-square`")
        short, long = sorted((width, height))
        if (reduced := lost.low_resolution) is not None:
            short, long = reduced, longer(reduced, short, long) if lost.aspect_kept else reduced
        lines.append(longer(image_size, short, long))
        wide.append(width > height and lines[-1] > image_size)
    return Sizes(np.array(lines, np.int64), np.array(wide, np.bool_))


def _rows(lines_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of file rows that each image takes."""
    rows_N: npt.NDArray[np.int64] = -(-lines_N // _LINES)
    return rows_N


def _all_lines(part: LabelledImages, indices: range, sizes: Sizes, image_size: int, lost: Degradation) -> Bytes:
    """Return the file rows of some images, R x 32 x C x S."""
    chosen = slice(indices.start, indices.stop)
    rows = _rows(sizes.lines_N[chosen]).tolist()
    found = np.zeros((sum(rows), _LINES, part.channels, image_size), np.uint8)
    first = 0
    for index, count, lines, wide in zip(
        indices, rows, sizes.lines_N[chosen].tolist(), sizes.wide_N[chosen].tolist(), strict=True
    ):
        progressed()
        lines_LCS = _as_lines(pixels(part.image(index), image_size, lost, shorten), wide)
        if lines_LCS.shape != (lines, part.channels, image_size):
            file = part.paths[index] if isinstance(part, FolderPart) else ""
            raise DamagedFile(
                Code.DAMAGED_DATA, f"image {index} {file} changed while it was being read. Fix: start again", file=file
            )
        found[first : first + count].reshape(-1, part.channels, image_size)[:lines] = lines_LCS
        first += count
    return found


def _as_lines(image_CHW: Bytes, wide: bool) -> Bytes:
    """Return a view of an image as lines perpendicular to its longer side, L x C x S."""
    return image_CHW.transpose(2, 0, 1) if wide else image_CHW.transpose(1, 0, 2)


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Return the part of [start, start + size) inside [0, length), and its position relative to ``start``."""
    low = min(max(start, 0), length)
    high = max(low, min(start + size, length))
    return slice(low, high), slice(low - start, high - start)
