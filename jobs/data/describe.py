"""Creation of a dataset card from an image folder, ready for a study file. No torch."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.catalog.dataset_card import DatasetCard, ExifOrientation
from jobs.data.folders import read_image_folder
from jobs.data.oddities import oddities
from jobs.data.raw import FolderPart, RawPart
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import NAME_PATTERN
from jobs.specs.canonical import digest


class Described(NamedTuple):
    """The description of an image folder."""

    card: DatasetCard
    notes: list[str]
    """Irregularities, and images that are read differently from how they look; none keeps a trial from running."""
    turned: int
    """Number of images whose EXIF orientation rotates or mirrors them; the card says whether it is applied."""


def describe(folder: Path, name: str, exif_orientation: ExifOrientation = "applied") -> Described:
    """Decode every image of ``folder/train/LABEL/*`` and ``folder/test/LABEL/*`` once and return the folder's card.

    The dataset is grey if the three channels of every pixel are equal. ``mean`` and ``std`` are computed over all
    pixels of the training images at their original size, in [0, 1], rounded to four digits.

    Args:
        exif_orientation: the card's setting if any image has an EXIF orientation to apply.

    Raises:
        InvalidRequest: if the name is not a valid dataset name, there is only one label, or a channel is constant.
        DamagedFile: if it is not an image folder, or an image cannot be decoded.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"expected a dataset name of lower-case letters, digits, `.`, `_` and `-`; got {name!r}. "
            "Fix: choose a name with --name",
            key="--name",
        )
    folder = folder.expanduser().resolve()
    raw = read_image_folder(folder, colour=True, upright=exif_orientation == "applied")
    if len(raw.names) < 2:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected at least two labels; got only {raw.names[0]}. Fix: add images of another label, in another "
            f"folder in {folder}/train",
            file=folder / "train",
            key="labels",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings name no file; ``oddities`` reports them with it
        train, test = (_Statistics.of(raw.train), _Statistics.of(raw.test))
    colour = train.colour or test.colour
    mean, std = train.mean_and_std()
    if not all(std):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            "expected training images whose values vary in every channel, because normalization divides by their "
            f"standard deviation; {folder}/train has standard deviations {list(std)}. Fix: add other images",
            file=folder / "train",
            key="std",
        )
    odd = oddities(folder, raw)
    card = DatasetCard(
        name=name,
        train=len(raw.train.labels_N),
        test=len(raw.test.labels_N),
        labels=len(np.unique(raw.train.labels_N)),
        colour=colour,
        mean=mean if colour else mean[:1],
        std=std if colour else std[:1],
        sha256=raw.sha256,
        label_names=digest(raw.names),
        folder=str(folder),
        exif_orientation=exif_orientation if odd.turned else "ignored",
    )
    return Described(card, odd.said, odd.turned)


class _Statistics(NamedTuple):
    """Statistics over all pixels of a part, per channel: count, sum, and sum of squares (exact)."""

    colour: bool
    pixels: int
    sums_C: npt.NDArray[np.int64]
    squares_C: npt.NDArray[np.int64]

    @classmethod
    def of(cls, part: RawPart | FolderPart) -> "_Statistics":
        colour, pixels, sums_C, squares_C = False, 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
        for index in range(len(part.labels_N)):
            pixels_PC = np.asarray(part.image(index)).reshape(-1, 3).astype(np.int64)
            colour = colour or bool((pixels_PC != pixels_PC[:, :1]).any())
            pixels += len(pixels_PC)
            sums_C += pixels_PC.sum(axis=0)
            squares_C += (pixels_PC**2).sum(axis=0)
        return cls(colour, pixels, sums_C, squares_C)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean_C = self.sums_C / self.pixels
        std_C = np.sqrt(self.squares_C / self.pixels - mean_C**2)
        return tuple((mean_C / 255).round(4).tolist()), tuple((std_C / 255).round(4).tolist())
