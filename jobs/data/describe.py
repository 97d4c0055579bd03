"""The card of an image folder, counted and measured, ready for a study file. No torch."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.canonical import digest
from jobs.data.folders import read_image_folder
from jobs.data.oddities import oddities
from jobs.data.raw import FolderPart, RawPart
from jobs.errors import Code, InvalidRequest
from jobs.registry import DatasetCard, ExifOrientation
from jobs.specs import NAME_PATTERN


class Described(NamedTuple):
    """What an image folder is."""

    card: DatasetCard
    notes: list[str]
    """What is as it should not be, or is read otherwise than it looks; nothing that keeps a trial from running."""
    turned: int
    """Images that EXIF asks to be turned or mirrored; the card says what is done about it."""


def describe(folder: Path, name: str, exif_orientation: ExifOrientation = "applied") -> Described:
    """Decode every image of ``folder/train/LABEL/*`` and ``folder/test/LABEL/*`` once, and write its card.

    The dataset is grey when the three channels of every pixel are the same. ``mean`` and ``std`` are those
    of all pixels of the training images as they are, in [0, 1], to four digits.

    Args:
        exif_orientation: what the card says where an image has one to apply.

    Raises:
        InvalidRequest: when the name is none for a dataset, there is one label alone, or a channel is the same
            everywhere.
        DamagedFile: when it is no image folder, or an image cannot be decoded.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"a dataset's name has lower-case letters, digits, `.`, `_` and `-` only; {name!r} has others. "
            "Give it one with --name",
            key="--name",
        )
    folder = folder.expanduser().resolve()
    raw = read_image_folder(folder, colour=True, upright=exif_orientation == "applied")
    if len(raw.names) < 2:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"images of one label alone ({raw.names[0]}) are all told right by every network; a dataset has two labels "
            f"or more, each a folder in {folder}/train",
            file=folder / "train",
            key="labels",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, which say no file; ``oddities`` does
        train, test = (_Statistics.of(raw.train), _Statistics.of(raw.test))
    colour = train.colour or test.colour
    mean, std = train.mean_and_std()
    if not all(std):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"a training set has different values in every channel, or nothing can be normalised by it; {folder}/train "
            f"has the stds {list(std)}",
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
    """Of all pixels of a part, a channel each: how many, their sum, the sum of their squares (exact)."""

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
