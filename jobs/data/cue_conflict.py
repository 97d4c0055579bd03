"""Cue-conflict images made from a dataset: the shape of one image with the texture of one that has another label."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.data.raw import LabelledImages
from jobs.data.resize import resize
from jobs.errors import Code, DamagedFile

_NO_AMPLITUDE = 1e-6
"""Smaller amplitudes of sums over uint8 pixels are rounding errors, whose phases differ between CPUs."""


class ConflictPart(NamedTuple):
    """One image for each image of ``shapes``, labelled by shape; each takes its texture from another image."""

    shapes: LabelledImages
    labels_N: npt.NDArray[np.int64]
    textures_N: npt.NDArray[np.int64]
    """The label of each texture."""
    partners_N: npt.NDArray[np.int64]
    side: int
    """Side length in pixels at which images are mixed: the input size of the network."""

    @property
    def channels(self) -> int:
        return self.shapes.channels

    def image(self, index: int) -> Image.Image:
        shape, texture = (
            np.asarray(resize(self.shapes.image(int(i)), self.side)) for i in (index, self.partners_N[index])
        )
        return Image.fromarray(phases_and_amplitudes(shape, texture))

    def size(self, _: int) -> tuple[int, int]:
        return self.side, self.side


def in_conflict(part: LabelledImages, size: int) -> ConflictPart:
    """Return cue-conflict images with all images of a part as shapes, at the input size of the network.

    Raises:
        DamagedFile: if all images have the same label.
    """
    partners_N = partners(part.labels_N)
    return ConflictPart(part, part.labels_N, part.labels_N[partners_N], partners_N, size)


def partners(labels_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each image the index of an image with another label, N; all other labels are used equally often.

    With K labels, image r (from 0) of label s is paired with label (s + 1 + r mod (K - 1)) mod K, and with image r of
    that label, modulo its number of images. The choice is deterministic.

    Raises:
        DamagedFile: if there is only one label.
    """
    images = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    if (count := len(images)) < 2:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected images of at least two labels for a cue conflict; got {count}",
        )
    found = np.empty_like(labels_N)
    for place, mine in enumerate(images):
        for number, index in enumerate(mine):
            theirs = images[(place + 1 + number % (count - 1)) % count]
            found[index] = theirs[number % len(theirs)]
    return found


def phases_and_amplitudes(shape: npt.NDArray[np.uint8], texture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Combine the Fourier phases of one image with the Fourier amplitudes of another, channel by channel.

    Phases determine the visible structure of an image, amplitudes its statistics (Oppenheim and Lim 1981; Piotrowski
    and Campbell 1982). Where the first image has no amplitude the phase is 0. The result is clipped to [0, 255] and
    rounded.

    Args:
        shape, texture: S x S or S x S x C, both of the same size.
    """
    transformed = np.fft.fft2(shape.astype(np.float64), axes=(0, 1))
    amplitudes = np.abs(np.fft.fft2(texture.astype(np.float64), axes=(0, 1)))
    known = np.abs(transformed) > _NO_AMPLITUDE
    phases = np.where(known, transformed, 1) / np.where(known, np.abs(transformed), 1)
    mixed = np.fft.ifft2(amplitudes * phases, axes=(0, 1)).real
    rounded: npt.NDArray[np.uint8] = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    return rounded
