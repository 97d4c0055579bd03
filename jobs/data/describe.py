"""Creation of a dataset card from an image folder, ready for a study file. No torch."""

import re
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.catalog.catalog import packaged_datasets
from jobs.catalog.dataset_card import DatasetCard, ExifOrientation
from jobs.data.folders import beside_parts, list_image_folder, read_image_folder
from jobs.data.oddities import oddities
from jobs.data.raw import FolderPart
from jobs.errors import Code, DamagedFile, DeltaSweepError, InvalidRequest, raise_together
from jobs.paths import expanded, require_utf8
from jobs.specs.base import NAME_PATTERN
from jobs.specs.canonical import digest


class Described(NamedTuple):
    """The description of an image folder."""

    card: DatasetCard
    notes: list[str]
    """Irregularities, and images that are read differently from how they look; none keeps a trial from running."""
    turned: int
    """Number of images whose EXIF orientation rotates or mirrors them; the card says whether it is applied."""


OnImage = Callable[[int, int], object]
"""Receives the number of images that have been decoded, and the number of all that will be; most are decoded twice."""


def describe(
    folder: Path,
    name: str | None = None,
    exif_orientation: ExifOrientation = "applied",
    progress: OnImage = lambda done, total: None,
) -> Described:
    """Decode every image of ``folder/train/LABEL/*`` and ``folder/test/LABEL/*`` once and return the folder's card.

    The dataset is grey if the three channels of every pixel are equal. ``mean`` and ``std`` are computed over all
    pixels of the training images at their original size, in [0, 1], rounded to four digits.

    Args:
        name: the dataset's name; by default the folder's name, in the letters that names of datasets have.
        exif_orientation: the card's setting if any image has an EXIF orientation to apply.
        progress: called after each image.

    Raises:
        InvalidRequest: if the folder's path is not in UTF-8; if the name is not a valid dataset name, or is that of a
            packaged dataset; if there is only one label, or a channel is constant.
        DamagedFile: if it is not an image folder, or files are not images or cannot be decoded; lists all of them.
    """
    folder = expanded(folder).resolve()
    require_utf8(folder)
    listed = list_image_folder(folder)
    name = _name_of(folder) if name is None else name
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"expected a dataset name of lower-case letters, digits, `.`, `_` and `-`; got {name!r}. "
            "Fix: choose a name with --name",
            key="--name",
        )
    if name in packaged_datasets():
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"expected a name that no packaged dataset has; got {name!r}. Fix: choose a name with --name",
            key="--name",
        )
    problems: list[DeltaSweepError] = [*listed.problems]
    if len(listed.labels) == 1:
        message = (
            f"expected at least two labels; got only {listed.labels[0]}. Fix: add images of another label, in another "
            f"folder in {folder}/train"
        )
        problems.append(InvalidRequest(Code.WRONG_VALUE, message, file=folder / "train", key="labels"))
    upright = exif_orientation == "applied"
    parts = listed.parts(colour=True, upright=upright)
    count = _Count(2 * sum(len(part.paths) for part in parts), progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings name no file; ``oddities`` reports them with it
        train, test = (_Statistics.of(part, problems, count.up) for part in parts)
    raise_together(problems)
    raw = read_image_folder(folder, colour=True, upright=upright)
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
    odd = oddities(folder, raw, count.up)
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
    return Described(card, [*beside_parts(folder), *odd.said], odd.turned)


def _name_of(folder: Path) -> str:
    """Return a dataset's name like a folder's: lower case, letters without accents, dashes for all other characters."""
    plain = unicodedata.normalize("NFKD", folder.name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._") or folder.name


class _Count:
    """Counts images for a progress display."""

    def __init__(self, total: int, progress: OnImage) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def up(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


_AT_ONCE = 1 << 20  # pixels


class _Statistics(NamedTuple):
    """Statistics over all pixels of a part, per channel: count, sum, and sum of squares (exact)."""

    colour: bool
    pixels: int
    sums_C: npt.NDArray[np.int64]
    squares_C: npt.NDArray[np.int64]

    @classmethod
    def of(cls, part: FolderPart, problems: list[DeltaSweepError], after_each: Callable[[], object]) -> "_Statistics":
        """Decode a part's images, and add those that cannot be decoded to ``problems``."""
        colour, pixels, sums_C, squares_C = False, 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
        for index in range(len(part.labels_N)):
            after_each()
            try:
                all_PC = np.asarray(part.image(index)).reshape(-1, 3)
            except DamagedFile as error:
                problems.append(error)
                continue
            pixels += len(all_PC)
            for start in range(0, len(all_PC), _AT_ONCE):  # an image may have a hundred million pixels
                pixels_PC = all_PC[start : start + _AT_ONCE].astype(np.int64)
                colour = colour or bool((pixels_PC != pixels_PC[:, :1]).any())
                sums_C += pixels_PC.sum(axis=0)
                squares_C += (pixels_PC**2).sum(axis=0)
        return cls(colour, pixels, sums_C, squares_C)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean_C = self.sums_C / self.pixels
        std_C = np.sqrt(self.squares_C / self.pixels - mean_C**2)
        return tuple((mean_C / 255).round(4).tolist()), tuple((std_C / 255).round(4).tolist())
