"""Images of conflicting cues made of a dataset's own: the shape of one and the texture of another of another label."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.data.raw import Part
from jobs.data.resized import resize
from jobs.errors import Code, DamagedFile

_NO_AMPLITUDE = 1e-6
"""Sums of bytes are whole numbers times sines: what is smaller is rounding, whose phase no two CPUs share."""


class ConflictPart(NamedTuple):
    """As many images as ``shapes`` has, labelled by shape; each takes its texture from another of them."""

    shapes: Part
    labels_N: npt.NDArray[np.int64]
    textures_N: npt.NDArray[np.int64]
    """The label of each texture."""
    partners_N: npt.NDArray[np.int64]
    side: int
    """Pixels a side at which images are mixed: the network's."""

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


def in_conflict(part: Part, size: int) -> ConflictPart:
    """All images of a part as shapes, at the size of the network.

    Raises:
        DamagedFile: when they are all of one label.
    """
    partners_N = partners(part.labels_N)
    return ConflictPart(part, part.labels_N, part.labels_N[partners_N], partners_N, size)


def partners(labels_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each image the index of one of another label, N; textures of all other labels come equally often.

    Of K labels, number r (from 0) of the images of label s takes that of label s + 1 + r mod (K - 1), modulo K; of its
    images number r, modulo how many there are. Nothing is drawn.

    Raises:
        DamagedFile: when there is one label alone.
    """
    images = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    if (count := len(images)) < 2:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"cues of images conflict where these are of two labels or more; they are of {count}",
        )
    found = np.empty_like(labels_N)
    for place, mine in enumerate(images):
        for number, index in enumerate(mine):
            theirs = images[(place + 1 + number % (count - 1)) % count]
            found[index] = theirs[number % len(theirs)]
    return found


def phases_and_amplitudes(shape: npt.NDArray[np.uint8], texture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The phases of one image's discrete Fourier transform with the amplitudes of another's, channel by channel.

    Phases carry what is seen in an image, amplitudes its statistics (Oppenheim and Lim 1981; Piotrowski and Campbell
    1982). Where the first has no amplitude the phase is 0. What comes back is cut to 0 to 255 and rounded.

    Args:
        shape, texture: S x S, or S x S x C, of one size.
    """
    transformed = np.fft.fft2(shape.astype(np.float64), axes=(0, 1))
    amplitudes = np.abs(np.fft.fft2(texture.astype(np.float64), axes=(0, 1)))
    known = np.abs(transformed) > _NO_AMPLITUDE
    phases = np.where(known, transformed, 1) / np.where(known, np.abs(transformed), 1)
    mixed = np.fft.ifft2(amplitudes * phases, axes=(0, 1)).real
    rounded: npt.NDArray[np.uint8] = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    return rounded
